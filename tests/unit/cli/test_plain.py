"""What is read without Typer is what Typer reads; the rest is left to it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from services.cli.calling import Receiver
from services.cli.plain import Argument, Option, for_typer, run_plainly
from tests.builders.acceptor import Caller, acceptor
from tests.builders.series import sound_series

_CALLED: list[Any] = []


@dataclass(frozen=True)
class _Dated(Receiver):
    depth: Annotated[int | None, Option("How deep.", minimum=1, maximum=9)] = None


def command(
    paths: Annotated[list[Path], Argument("Some.", metavar="PATH")],
    receiver: _Dated,
    share: Annotated[float, Option("A share.", minimum=0.0, maximum=1.0)] = 0.5,
    as_json: Annotated[bool, Option("For machines.", "--json")] = False,
) -> None:
    """Notes what it is called with."""
    _CALLED.append((paths, receiver, share, as_json))


def _by_typer(words: list[str]) -> tuple[int, list[Any]]:
    _CALLED.clear()
    app = typer.Typer()
    app.command()(for_typer(command))
    return CliRunner().invoke(app, words).exit_code, [*_CALLED]


def _plainly(words: list[str]) -> tuple[bool, list[Any]]:
    _CALLED.clear()
    return run_plainly(command, words), [*_CALLED]


@pytest.mark.parametrize(
    "line",
    [
        "a",
        "a b --json",
        "--host pacs a --port 104 b",
        "a --host=pacs --called=PACS=1 --timeout 2",
        "a --tls --tls-trust ca.pem --tls-any-name --depth 3 --share 0",
        "a --host one --host two",
        "a --host --json --json",
        "a --calling= --host=",
    ],
)
def test_what_is_plainly_right_means_the_same(line: str) -> None:
    done, plainly = _plainly(line.split())
    assert done
    code, by_typer = _by_typer(line.split())
    assert (code, plainly) == (0, by_typer)
    assert len(plainly) == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "--json",
        "a --help",
        "a --frobnicate",
        "a -x",
        "a --host",
        "a --port far",
        "a --port -1",
        "a --port 65536",
        "a --share 1.5",
        "a --share nan",
        "a --depth 0",
        "a --json=yes",
        "a --",
        "a -",
    ],
)
def test_what_is_not_is_left_to_typer_and_nothing_is_run(line: str) -> None:
    assert _plainly(line.split()) == (False, [])


def test_a_command_that_is_read_plainly_imports_neither_typer_nor_rich(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom")
    code = "import sys; from services.cli.app import main; main(); print(*sys.modules)"
    heavy = {"typer", "rich", "pydantic", "sqlalchemy", "pydicom", "numpy", "structlog", "grpc"}
    for words in (["send", str(tmp_path / "dicom")], ["echo"]):
        with acceptor(_accepts_all) as port:
            where = ["--host", "127.0.0.1", "--port", str(port), "--called", "PACS"]
            done = subprocess.run(
                [sys.executable, "-c", code, *words, *where],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
        assert not heavy & {name.partition(".")[0] for name in done.stdout.split()}


def _accepts_all(caller: Caller) -> None:
    caller.accept()
    caller.store_all()

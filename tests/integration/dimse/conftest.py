"""Systems to send to, and files in every transfer syntax that real ones are in."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.builders.network import free_port
from tests.builders.peers import echo, wait_until
from tests.builders.senders import rewritten
from tests.conftest import Scan

STORESCP = Path("/usr/bin/storescp")
OpenStorescp = Callable[..., AbstractContextManager[tuple[int, Path]]]

# dcmtk's tool that makes such data, and the transfer syntax.
SYNTAXES: dict[str, tuple[str, ...]] = {
    "1.2.840.10008.1.2.1": ("dcmconv", "+te"),
    "1.2.840.10008.1.2": ("dcmconv", "+ti"),
    "1.2.840.10008.1.2.2": ("dcmconv", "+tb"),
    "1.2.840.10008.1.2.4.70": ("dcmcjpeg", "+e1"),
    "1.2.840.10008.1.2.4.80": ("dcmcjpls", "+el"),
    "1.2.840.10008.1.2.5": ("dcmcrle",),
}


@pytest.fixture
def in_every_syntax(scan: Scan, tmp_path: Path) -> list[Path]:
    """Slices of a real CT, some in each transfer syntax."""
    slices = sorted(scan("philips-ct-phantom-201").glob("*.dcm"))
    files: list[Path] = []
    for number, (syntax, tool) in enumerate(SYNTAXES.items()):
        files += rewritten(slices[number::6], tmp_path / "sent" / syntax, *tool)
    return files


@pytest.fixture
def storescp(tmp_path: Path) -> OpenStorescp:
    """Runs dcmtk's storescp: ``with storescp("+xi") as (port, folder)``; bit for bit by default."""

    @contextmanager
    def opened(*options: str) -> Generator[tuple[int, Path]]:
        port, folder = free_port(), tmp_path / "storescp"
        folder.mkdir()
        command = [STORESCP, "-B", "+xa", *options, "-aet", "PACS", "-od", folder, port]
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        try:
            wait_until(lambda: echo(port), 20, "storescp answers C-ECHO")
            yield port, folder
        finally:
            process.kill()
            process.wait()

    return opened

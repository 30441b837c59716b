"""A build that takes another's place: there is no moment without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.building import exchange
from models.building.exchange import take_place

# Opens the file again and again until it is told to stop; says how often it was there, and not.
_WATCHER = """
import os, sys
file, stop = sys.argv[1:]
there = missing = 0
print("watching", flush=True)
while not os.path.exists(stop):
    try:
        os.close(os.open(file, os.O_RDONLY))
        there += 1
    except OSError:
        missing += 1
print(there, missing, flush=True)
"""


def folder(place: Path, content: str) -> Path:
    (place / "1").mkdir(parents=True)
    (place / "1" / "network.bin").write_text(content)
    return place


def watched(tmp_path: Path, replacements: int) -> tuple[int, int]:
    """How often another process finds the file, and does not, while its folder is replaced."""
    place, stop = folder(tmp_path / "build", "0"), tmp_path / "stop"
    argv = [sys.executable, "-c", _WATCHER, str(place / "1" / "network.bin"), str(stop)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        for number in range(replacements):
            take_place(folder(tmp_path / f"fresh-{number}", str(number)), place)
        stop.touch()
        there, missing = watcher.stdout.readline().split()
    assert (place / "1" / "network.bin").read_text() == str(replacements - 1)
    return int(there), int(missing)


def test_another_process_never_finds_a_build_missing(tmp_path: Path) -> None:
    there, missing = watched(tmp_path, 3000)
    assert missing == 0
    assert there > 0


def test_the_watcher_of_these_tests_would_see_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without exchange: it is the exchange that leaves no gap."""
    monkeypatch.setattr(exchange, "_exchanged", lambda one, other: False)
    _, missing = watched(tmp_path, 3000)
    assert missing > 0


def test_a_new_build_is_moved_in(tmp_path: Path) -> None:
    fresh = folder(tmp_path / "fresh", "new")
    assert take_place(fresh, tmp_path / "build")
    assert (tmp_path / "build" / "1" / "network.bin").read_text() == "new"
    assert not fresh.exists()


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_had_the_place_lies_where_the_new_one_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(exchange, "_exchanged", lambda one, other: False)
    place, fresh = folder(tmp_path / "build", "old"), folder(tmp_path / "fresh", "new")
    assert take_place(fresh, place) is exchanges
    assert (place / "1" / "network.bin").read_text() == "new"
    assert (fresh / "1" / "network.bin").read_text() == "old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["build", "fresh"]


def test_an_exchange_that_fails_is_an_error(tmp_path: Path) -> None:
    place = folder(tmp_path / "build", "old")
    with pytest.raises(OSError, match="No such file"):
        take_place(tmp_path / "nothing", place)
    assert (place / "1" / "network.bin").read_text() == "old"

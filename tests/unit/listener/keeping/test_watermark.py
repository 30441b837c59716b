"""The watermark: what is free decides, on every disk that is written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.listener.keeping import watermark
from services.listener.keeping.watermark import Watermark, free_bytes

MIB = 1 << 20


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Folders with so many bytes free on their disks."""
    free: dict[str, int] = {"/spool": 100 * MIB, "/store": 50 * MIB}
    monkeypatch.setattr(watermark, "free_bytes", lambda folder: free[str(folder)])
    return free


def test_there_is_room_at_the_mark_and_none_below_it(disks: dict[str, int]) -> None:
    mark = Watermark(("/spool",), 100 * MIB)
    assert mark.problem() is None
    disks["/spool"] -= 1
    assert mark.problem() is not None


@pytest.mark.usefixtures("disks")
def test_the_fullest_disk_decides_and_is_named() -> None:
    mark = Watermark(("/spool", "/store"), 60 * MIB)
    problem = mark.problem()
    assert problem is not None
    assert "/store" in problem
    assert "50 MiB" in problem
    assert "60 MiB" in problem


def test_folder_that_is_not_made_yet_lies_on_its_parents_disk(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free = free_bytes(tmp_path / "not" / "yet")
    assert abs(free - found.f_bavail * found.f_frsize) < 1 << 30


def test_disk_that_does_not_answer_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(_folder: object) -> None:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(os, "statvfs", stale)
    assert free_bytes("/anywhere") == 0

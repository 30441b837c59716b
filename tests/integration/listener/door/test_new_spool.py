"""A new spool tells every thread at once how much space its disk has."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from services.listener.door import ready_files
from services.listener.door.spool import Spool


def test_no_thread_hears_that_an_empty_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first that asks is held up in the middle of its question; the others ask meanwhile.
    real, asked, go_on = ready_files.os.fstatvfs, threading.Event(), threading.Event()

    def slow(descriptor: int) -> object:
        if not asked.is_set():
            asked.set()
            assert go_on.wait(20)
        return real(descriptor)

    monkeypatch.setattr(ready_files.os, "fstatvfs", slow)
    spool = Spool(tmp_path / "spool")
    try:
        told: list[int] = []
        first = threading.Thread(target=lambda: told.append(spool.free_bytes()))
        first.start()
        assert asked.wait(20)
        others = [threading.Thread(target=lambda: told.append(spool.free_bytes())) for _ in "abc"]
        for other in others:
            other.start()
        for other in others:
            other.join()
        go_on.set()
        first.join()
        assert len(told) == 4
        assert 0 not in told
    finally:
        spool.close()

"""A disk that refuses in any way costs the sender an A700 and nobody an instance."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.listener.door import ready_files
from services.listener.door import spool as spool_module
from services.listener.door.statuses import StoreStatus
from tests.builders.malformed import malformed_values
from tests.builders.reception import Reception, offer, registered
from tests.builders.series import edit, small_volume, sound_series

ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO]


class BrokenOs:
    """The system's calls, of which one fails once: the first time, or the one of that number."""

    def __init__(self, call: str, error: int, number: int = 1) -> None:
        self._call = call
        self._error = error
        self._left = number
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._failing(real) if name == self._call else real

    def _failing(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*given: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.failures += 1
                raise OSError(self._error, os.strerror(self._error))
            return real(*given)

        return called


def written(reception: Reception) -> list[Path]:
    return [file for file in reception.spool.folder.iterdir() if file.stat().st_size]


@malformed_values
@pytest.mark.parametrize("error", ERRORS, ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize(
    ("call", "number"),
    [("pwritev", 1), ("pwritev", 2), ("pwritev", 3), ("fdatasync", 1), ("pread", 1)],
    ids=["data", "last of the data", "head", "sync", "reading a long head"],
)
def test_a_refusal_is_out_of_resources_and_the_next_instance_is_accepted(
    call: str,
    number: int,
    error: int,
    lite_engine: Engine,
    lite_reception: Reception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Large enough to be written in parts; a head is read again when it is long.
    file = sound_series(tmp_path / "dicom", small_volume((2, 300, 320)))[0]
    if call == "pread":
        edit(file, ImageComments="long " * 20_000)
    offered = offer(file)
    broken = BrokenOs(call, error, number)
    monkeypatch.setattr(spool_module, "os", broken)
    assert lite_reception.receive(offered) is StoreStatus.OUT_OF_RESOURCES
    assert broken.failures == 1
    assert written(lite_reception) == []
    assert [refused.status for refused in lite_reception.refused] == ["A700"]
    assert lite_reception.receive(offered) is StoreStatus.SUCCESS
    assert len(registered(lite_engine)) == 1


def test_a_folder_that_holds_no_more_files_is_out_of_resources_until_it_does(
    lite_engine: Engine,
    lite_reception: Reception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offers = [offer(file) for file in sound_series(tmp_path / "dicom")]
    # As many as were made in advance are taken; then none can be made.
    broken = BrokenOs("fsync", errno.EIO)
    monkeypatch.setattr(ready_files, "os", broken)
    monkeypatch.setattr(ready_files, "_MADE_AT_ONCE", 2)
    statuses = [lite_reception.receive(offers[n % len(offers)], wait=False) for n in range(200)]
    assert broken.failures == 1
    assert set(statuses) <= {StoreStatus.SUCCESS, StoreStatus.OUT_OF_RESOURCES}
    assert statuses[-1] is StoreStatus.SUCCESS
    assert lite_reception.registrar.flush(20)
    assert len(registered(lite_engine)) == len(offers)


def test_more_than_are_made_at_a_time_may_wait_for_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "_MADE_AT_ONCE", 2)
    spool = spool_module.Spool(tmp_path / "spool")
    with ThreadPoolExecutor(20) as waiting:
        begun = [waiting.submit(spool.begin) for _ in range(20)]
        writers = [one.result(20) for one in begun]
    for writer in writers:
        writer.discard()
    spool.close()

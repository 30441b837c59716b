"""What a sender broke off is known after kill -9 and to other listeners, until it comes whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine, select

from services.common.database import SeriesRow, open_database
from services.common.store import StudyStore
from services.dimse import pdu
from services.dimse.commands import C_STORE_RQ
from services.listener.assembling.endings import broken_off, note_endings, note_lost
from services.listener.assembling.under_way import Ending
from tests.builders.assembling import revisions, series_uid, study_uids
from tests.builders.listener_process import ListenerProcess
from tests.builders.peers import wait_until
from tests.builders.raw_sender import RawSender
from tests.builders.reception import LISTENER_ID, offer
from tests.builders.series import sound_series
from tests.fuzz.make_corpus import command, values
from tests.integration.listener.conftest import OpenListener, Receiving

OTHER = "another"


def _listener(folder: Path) -> tuple[ListenerProcess, Engine]:
    listener = ListenerProcess(folder, listener={"quiet_period_s": 1.5})
    return listener, open_database(f"sqlite:///{folder / 'data' / 'axial.sqlite'}")


def _series(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.execute(select(SeriesRow.__table__)).one_or_none()


def _wait(condition: Callable[[], bool]) -> None:
    wait_until(condition, 30, "the series' row or the revision")


def _incomplete(engine: Engine) -> list[dict[str, int] | None]:
    return [row.incomplete for row in revisions(engine)]


def _store(listener: ListenerProcess, files: list[Path]) -> RawSender:
    sender = RawSender(listener.settings.listener.port).associate(MRImageStorage)
    for file in files:
        assert sender.store(file) == 0
    return sender


def test_a_series_that_was_broken_off_is_known_after_a_kill_until_it_comes_whole(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    listener, engine = _listener(tmp_path)
    with listener.running():
        with _store(listener, files[:2]):
            pass  # no release, no abort: the connection breaks
        _wait(lambda: (row := _series(engine)) is not None and row.broken_off)
    with listener.running():
        _wait(lambda: len(revisions(engine)) == 1)
        assert _incomplete(engine) == [{"broken_off": 1}]
        assert listener.send(tmp_path / "dicom").failed == ()
        _wait(lambda: len(revisions(engine)) == 2)
        assert _incomplete(engine) == [{"broken_off": 1}, None]
        assert not _series(engine).broken_off


def test_a_series_that_was_being_sent_when_the_listener_was_killed_is_broken_off(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    listener, engine = _listener(tmp_path)
    with listener.running() as process, _store(listener, files[:2]):
        _wait(lambda: (row := _series(engine)) is not None and bool(row.receiving_by))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)
    with listener.running():
        _wait(lambda: len(revisions(engine)) == 1)
    assert _incomplete(engine) == [{"broken_off": 1}]


def test_a_series_that_was_released_is_whole_after_a_kill(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    listener, engine = _listener(tmp_path)
    with listener.running():
        with _store(listener, files[:2]) as sender:
            sender.release()
        _wait(lambda: (row := _series(engine)) is not None and row.receiving_by is None)
    with listener.running():
        _wait(lambda: len(revisions(engine)) == 1)
    assert _incomplete(engine) == [None]


def test_what_one_listener_writes_down_another_one_reads(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    first, second, *_ = (offer(file) for file in sound_series(tmp_path / "dicom"))
    reception.receive(first)
    (study,), series = study_uids(engine), series_uid(engine)

    def broken() -> tuple[bool, bool]:
        """As the listener that receives sees it, and as another one does."""
        return bool(broken_off(engine, study, LISTENER_ID)), bool(broken_off(engine, study, OTHER))

    assert broken() == (False, True)  # to the other one it is not whole while it is received
    note_endings(engine, LISTENER_ID, {series: Ending.BROKEN})
    assert broken() == (True, True)
    reception.receive(second)
    note_endings(engine, LISTENER_ID, {series: Ending.SILENT})
    assert broken() == (True, True)  # what fell silent may not have been whole
    note_endings(engine, OTHER, {series: Ending.WHOLE})
    assert broken() == (False, False)
    assert note_lost(engine, LISTENER_ID) == 0
    reception.receive(offer(sorted((tmp_path / "dicom").iterdir())[2]))
    assert note_lost(engine, OTHER) == 0
    assert note_lost(engine, LISTENER_ID) == 1
    assert broken() == (True, True)


@pytest.mark.parametrize("how", ["released", "silent"])
def test_an_association_that_ends_within_an_instance_broke_off(
    how: str, open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    """However it ends: an instance that was begun is missing."""
    files = sound_series(tmp_path / "dicom")
    half = values(1, 3, command(C_STORE_RQ, sop_class=MRImageStorage, instance="1.2.3.4"))
    half += values(1, 0, b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100")
    with open_front_door(idle_timeout_s=0.5) as listener:
        with RawSender(listener.port).associate(MRImageStorage) as sender:
            assert sender.store(files[0]) == 0
            sender.send(half)
            if how == "released":
                sender.send(pdu.release_request())
            sender.answer()
        _wait(lambda: (row := _series(lite_engine)) is not None and row.broken_off)


@pytest.mark.parametrize("how", ["released", "silent"])
def test_an_association_that_ends_between_instances_did_not(
    how: str, open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door(idle_timeout_s=0.5) as listener:
        with RawSender(listener.port).associate(MRImageStorage) as sender:
            assert sender.store(files[0]) == 0
            if how == "released":
                sender.send(pdu.release_request())
            sender.answer()
        _wait(lambda: (row := _series(lite_engine)) is not None and row.receiving_by is None)
    assert not _series(lite_engine).broken_off

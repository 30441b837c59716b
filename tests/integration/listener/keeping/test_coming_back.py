"""A study that failed for a missing file goes on by itself when its files are there again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from services.common.database import ConflictRow, FateRow, InstanceRow, open_database
from services.common.store import StudyStore
from services.listener.assembling.revisions import in_store
from services.listener.keeping.coming_back import studies_that_came_back
from services.listener.registering.recovery import mark_what_reached_the_store
from tests.builders.assembling import NOON, Front, revisions
from tests.builders.listener_process import ListenerProcess
from tests.builders.peers import wait_until
from tests.builders.reception import LISTENER_ID
from tests.builders.s3_server import S3Server
from tests.builders.series import sound_series
from tests.builders.stored_studies import decided_revision
from tests.integration.conftest import open_s3
from tests.integration.listener.conftest import Receiving

# How a stored file may be damaged.
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda content: content[:-1000],
    "a bit turned": lambda content: content[:-9] + bytes([content[-9] ^ 4]) + content[-8:],
    "its head lost": lambda content: bytes(4096) + content[4096:],
    "emptied": lambda _: b"",
    "longer": lambda content: content + b"\0\0",
}


@pytest.fixture
def failed(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Front:
    """A study of which a file is missing, and whose newest revision failed for it."""
    front = Front(engine, store, tmp_path, receiving)
    front.receive(*range(7))
    front.look(engine)
    front.clock.advance(5)
    decided_revision(engine, front.study_uid, NOON)
    with engine.begin() as connection:
        connection.execute(
            update(FateRow).values(
                fate="failed", reason="source_missing", reason_values={"instance": "3"}
            )
        )
    folder = next((store.root / "studies").glob("*/*"))
    shutil.copytree(folder, tmp_path / "backup")
    (folder / f"{front.offers[3].sop_instance_uid}.dcm").unlink()
    return front


def test_when_it_is_sent_again(failed: Front) -> None:
    failed.receive(3)
    failed.look(failed.engine)
    assert len(revisions(failed.engine)) == 1  # more of it may come
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert [row.instances for row in revisions(failed.engine)] == [7, 7]
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert len(revisions(failed.engine)) == 2


def test_when_somebody_brings_its_files_back(
    failed: Front, store: StudyStore, tmp_path: Path
) -> None:
    now = failed.clock()
    assert studies_that_came_back(failed.engine, store, now) == []
    shutil.copytree(
        tmp_path / "backup", next((store.root / "studies").glob("*/*")), dirs_exist_ok=True
    )
    assert studies_that_came_back(failed.engine, store, now) == [failed.study_uid]
    assert studies_that_came_back(failed.engine, store, now) == []  # it waits for its revision
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert [row.instances for row in revisions(failed.engine)] == [7, 7]


@pytest.fixture
def frozen(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Front:
    """A study in the store, and its first revision."""
    front = Front(engine, store, tmp_path, receiving)
    front.receive(*range(7))
    front.look(engine)
    front.clock.advance(5)
    front.look(engine)
    assert len(revisions(engine)) == 1
    return front


def _stored(front: Front, store: StudyStore, number: int) -> Path:
    (file,) = (store.root / "studies").rglob(f"{front.offers[number].sop_instance_uid}.dcm")
    return file


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_healed_by_sending_it_again(
    frozen: Front, store: StudyStore, damage: Callable[[bytes], bytes]
) -> None:
    file = _stored(frozen, store, 3)
    sound = file.read_bytes()
    file.write_bytes(damage(sound))
    frozen.receive(*range(7))
    assert file.read_bytes()[4096:] == sound[4096:]
    with frozen.engine.connect() as connection:
        assert connection.execute(select(ConflictRow.__table__)).all() == []
        spools = connection.execute(select(InstanceRow.spooled_by)).scalars()
        assert set(spools) == {None}
    frozen.clock.advance(5)
    frozen.look(frozen.engine)
    assert [row.instances for row in revisions(frozen.engine)] == [7, 7]  # it goes on by itself
    frozen.receive(*range(7))
    frozen.clock.advance(5)
    frozen.look(frozen.engine)
    assert len(revisions(frozen.engine)) == 2  # and nothing more is to be done


def test_a_file_that_was_put_back_and_not_told_of_is_found_at_the_next_start(
    frozen: Front, store: StudyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _stored(frozen, store, 3)
    file.write_bytes(file.read_bytes()[:-1000])
    with monkeypatch.context() as patch:
        patch.setattr("services.listener.registering.placing.mark_in_store", _not_told)
        frozen.receive(3)
    frozen.clock.advance(5)
    frozen.look(frozen.engine)
    assert len(revisions(frozen.engine)) == 2
    assert not in_store(frozen.engine, frozen.study_uid, 2)  # nobody works on it yet
    assert mark_what_reached_the_store(frozen.engine, store, LISTENER_ID) == 1
    assert in_store(frozen.engine, frozen.study_uid, 2)


def _not_told(*_: object) -> None:
    """The process died before."""


def test_a_damaged_object_in_s3_is_healed_by_sending_it_again(
    s3_server: S3Server, tmp_path: Path
) -> None:
    sound_series(tmp_path / "dicom")
    listener = ListenerProcess(tmp_path / "listener", store=s3_server.settings("healed"))
    engine = open_database(listener.settings.resolved_database_url)
    store = open_s3(s3_server, tmp_path / "cache", "healed")
    with listener.running():
        assert listener.send(tmp_path / "dicom").failed == ()
        wait_until(lambda: len(revisions(engine)) == 1, 60, "it was not frozen")
        sound = {entry.key: store.read(entry.key) for entry in store.list("studies/")}
        cut, turned, lost = sorted(sound)[:3]
        store.put(cut, [DAMAGES["cut off"](sound[cut])])
        store.put(turned, [DAMAGES["a bit turned"](sound[turned])])
        store.delete([lost])
        assert listener.send(tmp_path / "dicom").failed == ()
        wait_until(lambda: len(revisions(engine)) > 1, 60, "it did not go on")
        wait_until(lambda: _whole(store, sound), 60, "it was not healed")
    with engine.connect() as connection:
        assert connection.execute(select(ConflictRow.__table__)).all() == []


def _whole(store: StudyStore, sound: dict[str, bytes]) -> bool:
    return {entry.key: store.read(entry.key)[4096:] for entry in store.list("")} == {
        key: content[4096:] for key, content in sound.items()
    }

"""What was registered reaches a store in S3, whatever happens on the way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, select
from sqlalchemy.exc import OperationalError

from services.common.database import InstanceRow, open_database, utc_now
from services.common.store import StoreError, StudyStore, conflict_key, open_store
from services.listener.assembling.announce import Announcer
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.keeping import shipping as shipping_module
from services.listener.keeping.shipping import Item, Shipping
from services.listener.registering.registry import register_instances
from tests.builders.listener_process import ListenerProcess
from tests.builders.orchestrator_peer import orchestrator_peer
from tests.builders.s3_server import S3Server
from tests.builders.series import sound_series
from tests.builders.stored_studies import LISTENER, received, spooled
from tests.builders.trust import to_orchestrator
from tests.integration.conftest import open_s3

STUDY = "1.2.3"
WITHIN_S = 60.0


def _wait(reached: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _registered(
    engine: Engine, folder: Path, numbers: range, *, by: str = LISTENER, series: int = 1
) -> tuple[list[Item], dict[str, bytes]]:
    """Rows of instances whose files lie in a spool: what shipping takes, and their bytes."""
    contents = {n: b"%d " % n * 2000 for n in numbers}
    batch = [
        received(STUDY, n, utc_now(), content=content, series=series)
        for n, content in contents.items()
    ]
    register_instances(engine, batch, by)
    items = [
        (
            one.registration.header.sop_instance_uid,
            one.store_key,
            spooled(folder / "spool", f"{by}-{series}-{n}", content),
        )
        for one, (n, content) in zip(batch, contents.items(), strict=True)
    ]
    return items, {key: contents[n] for (_, key, _), n in zip(items, contents, strict=True)}


def _spooled_by(engine: Engine) -> set[str | None]:
    with engine.connect() as connection:
        return set(connection.execute(select(InstanceRow.spooled_by)).scalars())


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def _holds(store: StudyStore, contents: dict[str, bytes]) -> bool:
    return all(store.read(key) == content for key, content in contents.items())


def _ignore(_study_uid: str) -> None:
    """Nobody waits for the study."""


def test_what_is_acknowledged_reaches_the_store_and_the_rows_say_so(
    engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    told: list[str] = []
    with Shipping(engine, tmp_path / "outbox", s3_store, LISTENER, told.append) as shipping:
        contents: dict[str, bytes] = {}
        for series, numbers in ((1, range(1, 40)), (2, range(1, 5)), (1, range(40, 60))):
            items, more = _registered(engine, tmp_path, numbers, series=series)
            shipping.add(items)
            contents |= more
        _wait(lambda: _spooled_by(engine) == {None}, "not everything was shipped")
        assert shipping.remark() is None
    assert _holds(s3_store, contents)
    assert set(told) == {STUDY}
    assert _files(tmp_path / "outbox") == _files(tmp_path / "spool") == []


def test_other_bytes_kept_beside_an_instance_are_shipped_too(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    key = conflict_key("1.2.3.1.1", "abc")
    file = spooled(tmp_path, "conflict", b"other bytes")
    with Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore) as shipping:
        shipping.add([("1.2.3.1.1", key, file)])
        _wait(lambda: s3_store.exists(key), "it was not shipped")


def test_what_an_earlier_process_left_is_shipped(
    engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    items, contents = _registered(engine, tmp_path, range(1, 6))
    Shipping(engine, tmp_path / "outbox", s3_store, LISTENER, _ignore).add(items)  # and died
    assert len(_files(tmp_path / "outbox")) == 5
    with Shipping(engine, tmp_path / "outbox", s3_store, LISTENER, _ignore):
        _wait(lambda: _spooled_by(engine) == {None}, "not everything was shipped")
    assert _holds(s3_store, contents)


def test_what_an_earlier_process_sent_without_saying_so_is_marked(
    engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    items, _ = _registered(engine, tmp_path, range(1, 4))
    s3_store.put_files([(key, file) for _, key, file in items])
    told: list[str] = []
    with Shipping(engine, tmp_path / "outbox", s3_store, LISTENER, told.append):
        _wait(lambda: _spooled_by(engine) == {None}, "they were not marked")
    assert told == [STUDY]


def test_instances_of_another_listener_are_left_to_it(
    engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    _registered(engine, tmp_path, range(1, 3), by="another")
    items, _ = _registered(engine, tmp_path, range(3, 5))
    with Shipping(engine, tmp_path / "outbox", s3_store, LISTENER, _ignore) as shipping:
        shipping.add(items)
        _wait(lambda: _spooled_by(engine) == {None, "another"}, "ours were not shipped")


def test_database_that_fails_after_the_upload_hears_of_it_later(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = shipping_module.mark_in_store, iter(range(2))

    def failing(engine: Engine, uids: list[str]) -> None:
        if next(failures, None) is not None:
            raise OperationalError("UPDATE", {}, Exception("away"))
        real(engine, uids)

    monkeypatch.setattr(shipping_module, "mark_in_store", failing)
    monkeypatch.setattr(shipping_module, "LONGEST_BACKOFF_S", 0.1)
    items, contents = _registered(lite_engine, tmp_path, range(1, 4))
    with Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore) as shipping:
        shipping.add(items)
        _wait(lambda: _spooled_by(lite_engine) == {None}, "they were not marked")
    assert _holds(s3_store, contents)


def test_object_without_a_row_is_replaced_by_the_registered_one(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    items, contents = _registered(lite_engine, tmp_path, range(1, 4))
    s3_store.put(items[1][1], [b"left by a database that is gone"])
    with Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore) as shipping:
        shipping.add(items)
        _wait(lambda: _spooled_by(lite_engine) == {None}, "not everything was shipped")
    assert _holds(s3_store, contents)


def test_revision_is_announced_when_the_last_listener_has_shipped_its_part(
    engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    first, _ = _registered(engine, tmp_path, range(1, 4), by="one")
    second, _ = _registered(engine, tmp_path, range(4, 7), by="two")
    with (
        orchestrator_peer() as (peer, address),
        Announcer(engine, to_orchestrator(address)) as announcer,
    ):
        frozen = freeze_revision(engine, STUDY, Trigger.TOLD, utc_now())
        assert frozen is not None
        announcer.announce(STUDY, frozen.number)
        shipped = threading.Event()
        for name, items in (("one", first), ("two", second)):
            assert peer.announced == []

            def told(study_uid: str) -> None:
                announcer.announce_study(study_uid)
                shipped.set()

            with Shipping(engine, tmp_path / name, s3_store, name, told) as shipping:
                shipped.clear()
                shipping.add(items)
                assert shipped.wait(WITHIN_S)
        assert peer.wait_for(1) == [(STUDY, 1)]


def test_store_that_is_away_costs_nothing_but_time(lite_engine: Engine, tmp_path: Path) -> None:
    with S3Server(tmp_path / "server") as server:
        store = open_s3(server, tmp_path / "cache", "away", timeout_s=1)
        with Shipping(lite_engine, tmp_path / "outbox", store, LISTENER, _ignore) as shipping:
            items, contents = _registered(lite_engine, tmp_path, range(1, 30))
            shipping.add(items)
            server.stop()  # in the middle of it
            for start in (30, 60):
                items, more = _registered(lite_engine, tmp_path, range(start, start + 30))
                contents |= more
                shipping.add(items)
            _wait(lambda: shipping.remark() is not None, "nobody is told")
            assert LISTENER in _spooled_by(lite_engine)
            server.start()
            _wait(lambda: _spooled_by(lite_engine) == {None}, "not everything was shipped")
            _wait(lambda: shipping.remark() is None, "it is still said to be away")
        assert _holds(store, contents)
        assert _files(tmp_path / "outbox") == []


def test_killed_with_a_full_spool_it_ships_when_it_is_back(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    with S3Server(tmp_path / "server") as server, orchestrator_peer() as (peer, address):
        process = ListenerProcess(
            tmp_path / "listener",
            store={**server.settings("killed"), "timeout_s": 1},
            orchestrator={"address": address},
        )
        server.stop()
        with process.running() as running:
            _wait(lambda: process.readiness()["ready"], process.log())
            assert not process.send(tmp_path / "dicom").failed
            _wait(lambda: bool(process.readiness()["remarks"]), "nobody is told")
            assert process.readiness()["ready"]  # it receives until the watermark
            running.kill()
            running.wait()
        engine = open_database(process.settings.resolved_database_url)
        with process.running():
            assert not process.send(tmp_path / "dicom").failed  # a sender that heard nothing
            assert peer.announced == []
            server.start()
            _wait(lambda: _spooled_by(engine) == {None}, process.log())
            peer.wait_for(1)
        engine.dispose()
        store = open_store(process.settings)
        found = {entry.key: entry.size_bytes for entry in store.list("studies")}
        assert len(found) == len(files)
        for file in files:
            (key,) = [key for key in found if key.endswith(f"/{_uid(file)}.dcm")]
            assert store.read(key)[-512:] == file.read_bytes()[-512:]
        assert _files(process.settings.outbox_dir) == []


def _uid(file: Path) -> str:
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def test_below_the_watermark_nothing_is_accepted_and_readiness_says_why(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom")
    process = ListenerProcess(tmp_path / "listener", store={"min_free_bytes": 1 << 60})
    with process.running():
        answer = process.readiness()
        assert not answer["ready"]
        assert "store.min_free_bytes" in answer["problems"][0]
        report = process.send(tmp_path / "dicom")
        assert report.failed
        assert not report.sent
    assert _files(process.settings.data_dir / "store") == []


def _waiting() -> float:
    return REGISTRY.get_sample_value("axial_objects_waiting") or 0.0


def test_what_was_sent_by_a_round_that_broke_is_marked(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    outbox = StudyStore(tmp_path / "outbox")
    items, contents = _registered(lite_engine, tmp_path, range(1, 4))
    shipping = Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore)
    shipping.add(items)
    # A round ended in what nobody planned for; its transfers under way came to their end.
    s3_store.put_files([(key, outbox.path(key)) for key in contents])
    with shipping:
        _wait(lambda: _spooled_by(lite_engine) == {None}, "they were not marked")
        assert _waiting() == 0
    assert _holds(s3_store, contents)


def test_what_is_sent_while_it_is_registered_is_counted_once(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items, contents = _registered(lite_engine, tmp_path, range(1, 6))
    others, more = _registered(lite_engine, tmp_path, range(6, 8))
    real = StudyStore.put_files

    def put_files(store: StudyStore, files: list[tuple[str, Path]], *, replace: bool) -> None:
        real(store, files, replace=replace)
        if store.folder == tmp_path / "outbox" and files[0][0] == items[0][1]:
            shipping.add(others)  # has a round begin
            _wait(lambda: all(map(s3_store.exists, contents)), "they were not shipped")

    with Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore) as shipping:
        monkeypatch.setattr(
            StudyStore,
            "put_files",
            lambda store, files, *, replace=False: put_files(store, files, replace=replace),
        )
        shipping.add(items)
        _wait(lambda: _spooled_by(lite_engine) == {None}, "not everything was shipped")
        _wait(lambda: _waiting() == 0, "something is still counted")
    assert _holds(s3_store, contents | more)


def test_what_the_disk_refuses_is_not_counted(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    items, _ = _registered(lite_engine, tmp_path, range(1, 4))
    shipping = Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore)
    (tmp_path / "outbox").write_text("no folder")
    with pytest.raises(StoreError):
        shipping.add(items)
    assert _waiting() == 0
    assert all(file.exists() for _, _, file in items)

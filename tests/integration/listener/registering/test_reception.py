"""What is acknowledged is on disk and registered once; everything else gets its status."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pydicom
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, select, text
from structlog.testing import capture_logs

from services.common.database import Base, ConflictRow, InstanceRow, SeriesRow, StudyRow
from services.common.headers import InstanceHeader
from services.common.identity import IMPLEMENTATION_CLASS_UID
from services.common.store import StudyStore
from services.listener.door.part10 import META_BYTES
from services.listener.door.statuses import StoreStatus
from tests.builders.kept_files import read_meta
from tests.builders.reception import LISTENER_ID, offer, registered
from tests.builders.series import PATIENT_ID, PATIENT_NAME, edit, sound_series
from tests.integration.listener.conftest import Receiving


def rows(engine: Engine, table: type[Base]) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table.__table__)).all())


def counted(outcome: str) -> float:
    return REGISTRY.get_sample_value("axial_instances_received_total", {"outcome": outcome}) or 0.0


def conflicts(store: StudyStore) -> list[Path]:
    return sorted((store.root / "conflicts").rglob("*.dcm"))


def test_an_acknowledged_instance_is_on_disk_as_sent_and_registered(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    file = sound_series(tmp_path / "dicom")[0]
    offered = offer(file)
    assert reception.receive(offered) is StoreStatus.SUCCESS

    (instance,) = rows(engine, InstanceRow)
    kept = store.read(instance.store_key)
    assert kept.endswith(offered.data)
    meta = pydicom.dcmread(store.path(instance.store_key)).file_meta
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.SourceApplicationEntityTitle == "MR1"
    assert instance.data_digest == offered.digest == read_meta(kept[:META_BYTES]).data_digest
    assert (instance.peer, instance.size_bytes) == ("MR1", len(kept))
    header = InstanceHeader.from_json(instance.header)
    assert header.sop_instance_uid == offered.sop_instance_uid
    assert header.pixel_offset is not None
    assert kept[header.pixel_offset :] == pydicom.dcmread(file).PixelData

    (study,), (series,) = rows(engine, StudyRow), rows(engine, SeriesRow)
    assert (study.unfrozen_instances, study.newest_revision) == (1, 0)
    assert study.attributes["PatientID"] == PATIENT_ID
    assert series.attributes["SeriesDescription"] == "T1 MPRAGE"
    assert stored == [study.study_uid]
    assert PATIENT_NAME not in str(instance.header) + str(series.attributes)


def test_the_same_instance_twice_is_counted_once_and_changes_nothing(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    offered = offer(sound_series(tmp_path / "dicom")[0])
    before = counted("repeated")
    assert reception.receive(offered) is StoreStatus.SUCCESS
    first = rows(engine, StudyRow), rows(engine, InstanceRow)
    assert reception.receive(offered) is StoreStatus.SUCCESS
    assert (rows(engine, StudyRow), rows(engine, InstanceRow)) == first
    assert (len(stored), counted("repeated") - before) == (1, 1)


def test_other_bytes_under_a_known_uid_never_replace_the_first(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    file = sound_series(tmp_path / "dicom")[0]
    first = offer(file)
    assert reception.receive(first) is StoreStatus.SUCCESS
    before = counted("conflicting")
    other = offer(edit(file, InstanceNumber=77))
    assert reception.receive(other) is StoreStatus.SUCCESS
    (instance,) = rows(engine, InstanceRow)
    assert store.read(instance.store_key).endswith(first.data)
    assert instance.data_digest == first.digest
    assert (len(stored), counted("conflicting") - before) == (1, 1)


def test_a_conflicting_instance_is_found_under_the_study_that_it_came_in(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    file = sound_series(tmp_path / "dicom")[0]
    reception.receive(offer(file))
    moved = offer(edit(file, StudyInstanceUID="2.25.5", SeriesInstanceUID="2.25.6"))
    assert reception.receive(moved) is StoreStatus.SUCCESS
    assert "2.25.5" in {study.study_uid for study in rows(engine, StudyRow)}
    assert "2.25.6" in {series.series_uid for series in rows(engine, SeriesRow)}
    (conflict,) = rows(engine, ConflictRow)
    assert (conflict.study_uid, conflict.series_uid) == ("2.25.5", "2.25.6")
    assert conflict.differs == ["uids"]
    assert store.exists(conflict.store_key)
    assert not (store.root / "studies" / "2.25.5").exists()


def test_a_repeated_instance_whose_file_was_lost_is_written_again(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    offered = offer(sound_series(tmp_path / "dicom")[0])
    reception.receive(offered)
    (instance,) = rows(engine, InstanceRow)
    store.path(instance.store_key).unlink()
    assert reception.receive(offered) is StoreStatus.SUCCESS
    assert store.read(instance.store_key).endswith(offered.data)


@pytest.mark.parametrize("peers", [("A", "ANOTHER_TITLE_16"), ("ANOTHER_TITLE_16", "A")])
def test_pixels_lie_where_the_row_says_after_another_peer_sent_a_lost_file_again(
    peers: tuple[str, str], engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    file = sound_series(tmp_path / "dicom")[0]
    reception.receive(offer(file, peer=peers[0]))
    (instance,) = rows(engine, InstanceRow)
    store.path(instance.store_key).unlink()
    assert reception.receive(offer(file, peer=peers[1])) is StoreStatus.SUCCESS
    kept = store.read(instance.store_key)
    offset = InstanceHeader.from_json(instance.header).pixel_offset
    assert kept[offset:] == pydicom.dcmread(file).PixelData
    assert read_meta(kept[:META_BYTES]).meta.peer == peers[1]


def test_the_same_bytes_in_another_transfer_syntax_never_take_the_place_of_a_lost_file(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    # JPEG 2000 with and without "lossless only": one and the same stream may be sent as either.
    reception = receiving(engine, store)
    file = sound_series(tmp_path / "dicom")[0]
    first = offer(file, transfer_syntax_uid="1.2.840.10008.1.2.4.90")
    assert reception.receive(first) is StoreStatus.SUCCESS
    (instance,) = rows(engine, InstanceRow)
    store.path(instance.store_key).unlink()
    before = counted("conflicting")
    other = offer(file, transfer_syntax_uid="1.2.840.10008.1.2.4.91")
    assert reception.receive(other) is StoreStatus.SUCCESS
    assert counted("conflicting") - before == 1
    assert not store.exists(instance.store_key)
    assert [read_meta(kept.read_bytes()[:META_BYTES]).data_digest for kept in conflicts(store)] == [
        other.digest
    ]


def test_other_bytes_under_a_known_uid_are_kept_before_they_are_acknowledged(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    file = sound_series(tmp_path / "dicom")[0]
    assert reception.receive(offer(file)) is StoreStatus.SUCCESS
    others = [offer(edit(file, InstanceNumber=n), peer="MR2") for n in (77, 78)]
    before = counted("conflicting")
    with capture_logs() as events:
        for other in (*others, *others):
            assert reception.receive(other) is StoreStatus.SUCCESS
    uid = others[0].sop_instance_uid
    expected = {
        f"conflicts/{uid}/{sha256(b'1.2.840.10008.1.2.1' + other.data).hexdigest()}.dcm": other.data
        for other in others
    }
    assert {kept.relative_to(store.root).as_posix() for kept in conflicts(store)} == set(expected)
    for key, data in expected.items():
        assert store.read(key).endswith(data)
        assert read_meta(store.read(key)[:META_BYTES]).meta.peer == "MR2"
    assert counted("conflicting") - before == 4
    logged = [event for event in events if event["event"] == "instance_conflicting"]
    assert [event["digest"] for event in logged[:2]] == [other.digest for other in others]


def test_a_conflicting_instance_that_the_disk_refuses_waits_and_holds_up_nobody(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    file, another = sound_series(tmp_path / "dicom")[:2]
    assert reception.receive(offer(file)) is StoreStatus.SUCCESS
    blocked = store.root / "conflicts"
    blocked.write_text("a file where the folder should be")
    other = offer(edit(file, InstanceNumber=77))
    assert reception.receive(other) is StoreStatus.SUCCESS
    assert reception.receive(offer(another)) is StoreStatus.SUCCESS
    assert len(rows(engine, InstanceRow)) == 2
    assert reception.registrar.problem() is not None
    blocked.unlink()
    wait_for(lambda: len(conflicts(store)) == 1)
    wait_for(lambda: reception.registrar.problem() is None)


def test_offers_of_one_instance_at_once_end_as_one(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    file = sound_series(tmp_path / "dicom")[0]
    offers = [offer(edit(file, InstanceNumber=n)) for n in range(1, 9)]
    statuses: list[StoreStatus] = []
    threads = [
        threading.Thread(target=lambda one=one: statuses.append(reception.receive(one)))
        for one in offers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [StoreStatus.SUCCESS] * 8
    (instance,) = rows(engine, InstanceRow)
    assert (
        read_meta(store.read(instance.store_key)[:META_BYTES]).data_digest == instance.data_digest
    )
    assert len(stored) == 1
    kept = {read_meta(file.read_bytes()[:META_BYTES]).data_digest for file in conflicts(store)}
    assert kept | {instance.data_digest} == {one.digest for one in offers}
    assert len(kept) == 7


def test_instances_of_one_study_received_at_once_are_all_counted(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    offers = [offer(file) for file in sound_series(tmp_path / "dicom")]
    threads = [threading.Thread(target=reception.receive, args=(one,)) for one in offers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (study,) = rows(engine, StudyRow)
    assert study.unfrozen_instances == len(rows(engine, InstanceRow)) == len(offers)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sop_instance_uid": "2.25.99"}, StoreStatus.DATA_SET_MISMATCH),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}, StoreStatus.DATA_SET_MISMATCH),
        ({"data": b"no DICOM at all, only words"}, StoreStatus.CANNOT_UNDERSTAND),
        ({"data": b""}, StoreStatus.CANNOT_UNDERSTAND),
        ({"transfer_syntax_uid": "1.2.840.10008.1.2.2"}, StoreStatus.CANNOT_UNDERSTAND),
    ],
    ids=["other instance", "other class", "words", "nothing", "other byte order"],
)
def test_a_data_set_that_is_not_what_it_should_be_is_refused_without_a_trace(
    changes: dict[str, Any],
    status: StoreStatus,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
    receiving: Receiving,
) -> None:
    reception = receiving(lite_engine, store)
    offered = offer(sound_series(tmp_path / "dicom")[0], **changes)
    assert reception.receive(offered) is status
    assert rows(lite_engine, StudyRow) == []
    assert not store.root.exists()


def test_a_missing_uid_cannot_be_understood(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(lite_engine, store)
    file = edit(sound_series(tmp_path / "dicom")[0], SeriesInstanceUID=None)
    assert reception.receive(offer(file)) is StoreStatus.CANNOT_UNDERSTAND


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_a_path_in_the_place_of_a_uid_cannot_be_understood(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(lite_engine, store)
    file = edit(sound_series(tmp_path / "dicom")[0], StudyInstanceUID="../../escaped")
    assert reception.receive(offer(file)) is StoreStatus.CANNOT_UNDERSTAND
    assert not (tmp_path / "escaped").exists()


def test_a_disk_that_is_nearly_full_accepts_nothing_and_says_so(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(lite_engine, store, watermark_bytes=1 << 60)
    offered = offer(sound_series(tmp_path / "dicom")[0])
    assert reception.receive(offered) is StoreStatus.OUT_OF_RESOURCES
    assert rows(lite_engine, InstanceRow) == []
    assert [refused.status for refused in reception.refused] == ["A700"]


def test_a_store_that_refuses_is_waited_for_in_the_spool(
    lite_engine: Engine, tmp_path: Path, receiving: Receiving
) -> None:
    blocked = tmp_path / "store"
    blocked.write_text("a file where the store's folder should be")
    reception = receiving(lite_engine, StudyStore(blocked))
    offered = offer(sound_series(tmp_path / "dicom")[0])
    assert reception.receive(offered) is StoreStatus.SUCCESS
    (row,) = rows(lite_engine, InstanceRow)
    assert row.spooled_by == LISTENER_ID
    blocked.unlink()
    wait_for(lambda: rows(lite_engine, InstanceRow)[0].spooled_by is None)
    assert StudyStore(blocked).read(row.store_key).endswith(offered.data)


def test_a_database_that_refuses_is_waited_for_in_the_spool(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(engine, store)
    offered = offer(sound_series(tmp_path / "dicom")[0])
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE study RENAME TO gone"))
    assert reception.receive(offered, wait=False) is StoreStatus.SUCCESS
    wait_for(lambda: reception.registrar.problem() is not None)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO study"))
    assert reception.registrar.flush(20)
    assert len(registered(engine)) == 1


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

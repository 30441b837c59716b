"""Other bytes under a known SOP Instance UID: a row, a policy, a decision; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine, select

from services.common.database import ConflictRow, InstanceRow, StudyRow, utc_now
from services.common.store import StoreError, StudyStore
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.door.statuses import StoreStatus
from services.listener.keeping.resolving import Resolving
from services.listener.registering.conflicts import decide
from tests.builders.peers import wait_until
from tests.builders.raw_sender import RawSender
from tests.builders.reception import OfferedInstance, Reception, offer
from tests.builders.running_listener import wait_until_registered
from tests.builders.series import edit, sound_series
from tests.integration.listener.conftest import OpenListener, Receiving

Change = Callable[[Path], Path]


def rows(engine: Engine, table: Any = ConflictRow) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table.__table__)).all())


def other_pixels(file: Path) -> Path:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return file


class Front:
    """A reception and a first series; its files may be changed and sent again."""

    def __init__(
        self, engine: Engine, store: StudyStore, folder: Path, receiving: Receiving, **named: Any
    ) -> None:
        self.engine, self.store = engine, store
        self.files = sound_series(folder / "dicom")
        self.changed: list[str] = []
        self.reception: Reception = receiving(engine, store, **named)
        self.first = [offer(file) for file in self.files]
        for one in self.first:
            assert self.reception.receive(one) is StoreStatus.SUCCESS
        (study,) = rows(engine, StudyRow)
        self.study_uid: str = study.study_uid

    def send(self, number: int, change: Change, **changes: Any) -> OfferedInstance:
        again = replace(offer(change(self.files[number])), **changes)
        assert self.reception.receive(again) is StoreStatus.SUCCESS
        return again

    def freeze(self) -> int | None:
        frozen = freeze_revision(self.engine, self.study_uid, Trigger.TOLD, utc_now())
        return None if frozen is None else frozen.number

    def resolving(self) -> Resolving:
        return Resolving(self.engine, self.store, lambda _: None)

    def wait_until_kept_beside(self) -> None:
        wait_until(
            lambda: all(row.store_key for row in rows(self.engine)), 20, "it is not kept beside"
        )

    def instance(self, number: int) -> Any:
        uid = self.first[number].sop_instance_uid
        return next(row for row in rows(self.engine, InstanceRow) if row.sop_instance_uid == uid)

    def bytes_of(self, number: int) -> bytes:
        return self.store.read(self.instance(number).store_key)


@pytest.fixture
def front(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Front:
    return Front(engine, store, tmp_path, receiving)


@pytest.mark.parametrize(
    ("change", "differs", "among_own"),
    [
        (lambda file: edit(file, PatientName="Right^Name", PatientID="R-1"), ["patient"], False),
        (
            lambda file: edit(file, StudyInstanceUID="2.25.5", SeriesInstanceUID="2.25.6"),
            ["uids"],
            False,
        ),
        (lambda file: edit(file, SeriesInstanceUID="2.25.6"), ["uids"], False),
        (other_pixels, ["pixels"], True),
        (lambda file: edit(other_pixels(file), InstanceNumber=99), ["place", "pixels"], True),
        (lambda file: edit(file, StudyComments="again"), ["attributes"], False),
    ],
    ids=["patient", "study", "series", "pixels", "place", "attributes"],
)
def test_a_conflict_is_a_row_that_says_what_differs(
    front: Front, change: Change, differs: list[str], among_own: bool
) -> None:
    again = front.send(2, change)
    (conflict,) = rows(front.engine)
    assert (conflict.differs, conflict.among_own) == (differs, among_own)
    assert (conflict.state, conflict.times) == ("open", 1)
    assert front.bytes_of(2).endswith(front.first[2].data)
    assert front.store.read(conflict.store_key).endswith(again.data)
    assert front.reception.receive(again) is StoreStatus.SUCCESS
    (conflict,) = rows(front.engine)
    assert conflict.times == 2


def test_other_pixels_that_come_after_the_series_was_frozen_are_another_version(
    front: Front,
) -> None:
    assert front.freeze() == 1
    front.send(2, other_pixels)
    (conflict,) = rows(front.engine)
    assert (conflict.differs, conflict.among_own) == (["pixels"], False)
    assert front.freeze() is None  # the first one is kept, and nothing changed


def test_another_slice_under_a_known_uid_changes_a_series_that_was_frozen(front: Front) -> None:
    assert front.freeze() == 1
    front.send(2, lambda file: edit(other_pixels(file), InstanceNumber=99))
    assert front.freeze() == 2


@pytest.mark.parametrize("other_study", [False, True])
def test_what_came_last_takes_the_place_and_what_was_there_is_kept_beside(
    front: Front, other_study: bool
) -> None:
    assert front.freeze() == 1
    uids = {"StudyInstanceUID": "2.25.5", "SeriesInstanceUID": "2.25.6"} if other_study else {}
    again = front.send(2, lambda file: edit(file, PatientName="Right^Name", **uids))
    assert decide(front.engine, front.study_uid, latest=True, at=utc_now()) == (1, set())
    front.resolving().carry_out()
    instance = front.instance(2)
    assert instance.spooled_by is None
    assert instance.data_digest == again.digest
    assert instance.study_uid == ("2.25.5" if other_study else front.study_uid)
    assert front.bytes_of(2).endswith(again.data)
    states = {row.state: row for row in rows(front.engine)}
    assert set(states) == {"taken", "replaced"}
    assert front.store.read(states["replaced"].store_key).endswith(front.first[2].data)
    objects = [entry.key for entry in front.store.list("")]
    assert len(objects) == len(front.files) + 1  # nothing is there twice
    assert front.freeze() == 2
    studies = {row.study_uid: row for row in rows(front.engine, StudyRow)}
    assert ("2.25.5" in studies) == other_study
    if other_study:
        assert studies["2.25.5"].unfrozen_instances == 1


@pytest.mark.parametrize("step", ["kept", "rows", "placed"])
def test_a_decision_that_was_interrupted_is_done_again(
    front: Front, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = front.send(2, lambda file: edit(file, PatientName="Right^Name"))
    decide(front.engine, front.study_uid, latest=True, at=utc_now())
    assert front.freeze() is None  # not with some of the one and some of the other

    def crash(point: str) -> None:
        if point == f"listener.conflict.{step}":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("services.listener.keeping.resolving.crashpoint", crash)
        with pytest.raises(KeyboardInterrupt):
            front.resolving().carry_out()
    if step != "kept":
        assert front.instance(2).spooled_by == "(taking)"  # nobody works on it
    assert front.freeze() is None
    front.resolving().carry_out()
    assert front.freeze() == 1
    assert front.instance(2).spooled_by is None
    assert front.bytes_of(2).endswith(again.data)
    (kept,) = [row for row in rows(front.engine) if row.state == "replaced"]
    assert front.store.read(kept.store_key).endswith(front.first[2].data)
    assert len(list(front.store.list(""))) == len(front.files) + 1


@pytest.mark.parametrize("frozen", [False, True])
def test_a_whole_image_takes_the_place_of_one_that_was_cut_off(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving, frozen: bool
) -> None:
    whole = sound_series(tmp_path / "whole")
    cut = sound_series(tmp_path / "dicom")[2]
    data = pydicom.dcmread(cut)
    data.PixelData = data.PixelData[: len(data.PixelData) // 2]
    data.save_as(cut)
    reception = receiving(engine, store)
    assert reception.receive(offer(cut)) is StoreStatus.SUCCESS
    (instance,) = rows(engine, InstanceRow)
    if frozen:
        freeze_revision(engine, instance.study_uid, Trigger.TOLD, utc_now())
    again = offer(whole[2])
    assert reception.receive(again) is StoreStatus.SUCCESS
    Resolving(engine, store, lambda _: None).carry_out()
    (instance,) = rows(engine, InstanceRow)
    assert store.read(instance.store_key).endswith(again.data)
    # The one that was cut off never takes it back.
    assert reception.receive(offer(cut)) is StoreStatus.SUCCESS
    Resolving(engine, store, lambda _: None).carry_out()
    assert store.read(instance.store_key).endswith(again.data)
    assert not any(row.among_own for row in rows(engine))


def test_what_was_decided_before_its_bytes_were_kept_beside_is_done_when_they_are(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "services.listener.registering.placing.Placing._keep_beside",
            _refuse_for_want_of_the_store,
        )
        again = front.send(2, lambda file: edit(file, PatientName="Right^Name"))
        assert decide(front.engine, front.study_uid, latest=True, at=utc_now())[0] == 1
        front.resolving().carry_out()
        assert front.bytes_of(2).endswith(front.first[2].data)
    assert front.reception.registrar.flush(20)
    front.wait_until_kept_beside()
    front.resolving().carry_out()
    assert front.bytes_of(2).endswith(again.data)


def _refuse_for_want_of_the_store(*_: object) -> None:
    raise StoreError("away", retryable=True)


def test_the_first_stays_when_it_was_decided_so(front: Front) -> None:
    front.send(2, other_pixels)
    assert front.freeze() == 1
    assert decide(front.engine, front.study_uid, latest=False, at=utc_now()) == (
        1,
        {front.study_uid},
    )
    assert [row.state for row in rows(front.engine)] == ["kept"]
    assert front.freeze() == 2  # without what the series was refused for
    assert decide(front.engine, front.study_uid, latest=False, at=utc_now()) == (0, set())


def test_of_several_the_last_one_takes_the_place(front: Front) -> None:
    front.send(2, lambda file: edit(file, StudyComments="second"))
    last = front.send(2, lambda file: edit(file, StudyComments="third"))
    assert decide(front.engine, front.study_uid, latest=True, at=utc_now())[0] == 2
    front.resolving().carry_out()
    assert front.bytes_of(2).endswith(last.data)
    assert sorted(row.state for row in rows(front.engine)) == ["kept", "replaced", "taken"]


def test_what_a_peer_sends_latest_is_taken_where_its_policy_says_so(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving, conflicts=lambda _: "take_latest")
    again = front.send(2, lambda file: edit(file, PatientName="Right^Name"))
    front.send(3, other_pixels)  # while the series is being received: which is right is not known
    front.resolving().carry_out()
    assert front.bytes_of(2).endswith(again.data)
    assert front.bytes_of(3).endswith(front.first[3].data)
    assert sorted(row.state for row in rows(engine)) == ["open", "replaced", "taken"]


def test_an_image_that_was_removed_may_come_under_another_study(front: Front) -> None:
    assert front.freeze() == 1
    with front.engine.begin() as connection:
        connection.execute(
            InstanceRow.__table__.update().values(deleted_at=utc_now())  # pyright: ignore[reportAttributeAccessIssue]
        )
    front.store.delete([row.store_key for row in rows(front.engine, InstanceRow)])
    again = front.send(2, lambda file: edit(file, StudyInstanceUID="2.25.5"))
    assert rows(front.engine) == []
    instance = front.instance(2)
    assert (instance.study_uid, instance.deleted_at, instance.spooled_by) == ("2.25.5", None, None)
    assert front.bytes_of(2).endswith(again.data)
    frozen = freeze_revision(front.engine, "2.25.5", Trigger.TOLD, utc_now())
    assert frozen is not None
    assert frozen.instances == 1


def test_other_bytes_are_refused_at_the_door_where_the_policy_says_so(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door(conflicts="refuse") as listener:
        with RawSender(listener.port).associate(MRImageStorage) as sender:
            assert [sender.store(file) for file in files[:2]] == [0, 0]
            assert sender.store(files[0]) == StoreStatus.SUCCESS  # the same once more
            assert sender.store(other_pixels(files[0])) == StoreStatus.DUPLICATE_INSTANCE
            sender.release()
        assert wait_until_registered(listener, 20)
    assert rows(lite_engine) == []
    assert len(rows(lite_engine, InstanceRow)) == 2
    assert not (store.root / "conflicts").exists()

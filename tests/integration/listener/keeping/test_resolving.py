"""Conflicts that become their instances, with whatever else happens to them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, text, update

from services.common.database import ConflictRow, InstanceRow, migrate, open_database, utc_now
from services.common.headers import HeaderError
from services.common.lifecycle import ConflictState
from services.common.store import StudyStore
from services.listener.keeping.resolving import Resolving
from services.listener.registering.conflicts import decide
from tests.builders.peers import wait_until
from tests.builders.reception import Reception, offer
from tests.builders.series import edit, sound_series
from tests.integration.listener.conftest import Receiving


class Beside:
    """A series of which some instances came again, under another name."""

    def __init__(
        self, engine: Engine, store: StudyStore, folder: Path, receiving: Receiving
    ) -> None:
        self.engine, self.store = engine, store
        self.files = sound_series(folder / "dicom")
        self.reception: Reception = receiving(engine, store)
        self.first = [offer(file) for file in self.files]
        for one in self.first:
            self.reception.receive(one)
        self.again = [offer(edit(file, PatientName="Right^Name")) for file in self.files[:2]]
        for one in self.again:
            self.reception.receive(one)

    def rows(self, table: Any = ConflictRow) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(select(table.__table__)).all())

    def states(self) -> list[str]:
        return sorted(row.state for row in self.rows())

    def change(self, number: int, table: Any = InstanceRow, **values: Any) -> None:
        """Changes what stands of one instance's rows."""
        uid = self.first[number].sop_instance_uid
        with self.engine.begin() as connection:
            connection.execute(update(table).where(table.sop_instance_uid == uid).values(**values))

    def take_latest(self) -> None:
        for one in self.first[:2]:
            decide(self.engine, one.sop_instance_uid, latest=True, at=utc_now())

    def instance(self, number: int) -> Any:
        uid = self.first[number].sop_instance_uid
        return next(row for row in self.rows(InstanceRow) if row.sop_instance_uid == uid)

    def bytes_of(self, number: int) -> bytes:
        return self.store.read(self.instance(number).store_key)

    def resolving(self, engine: Engine | None = None) -> Resolving:
        return Resolving(engine or self.engine, self.store, lambda _: None)


@pytest.fixture
def beside(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Beside:
    return Beside(engine, store, tmp_path, receiving)


@pytest.fixture
def engines(postgres_url: str) -> Generator[tuple[Engine, Engine]]:
    """One PostgreSQL database, as two listeners have it: several share no other."""
    opened = open_database(postgres_url), open_database(postgres_url)
    migrate(opened[0])
    yield opened
    for engine in opened:
        engine.dispose()


@pytest.fixture
def shared(
    engines: tuple[Engine, Engine], store: StudyStore, tmp_path: Path, receiving: Receiving
) -> Beside:
    return Beside(engines[0], store, tmp_path, receiving)


def test_an_instance_whose_own_bytes_are_on_their_way_is_not_replaced_before_they_are_there(
    beside: Beside,
) -> None:
    """Else they would arrive in the place of what was taken."""
    beside.take_latest()
    beside.change(0, spooled_by="another listener")
    beside.resolving().carry_out()
    assert beside.instance(0).data_digest == beside.first[0].digest
    assert beside.bytes_of(1).endswith(beside.again[1].data)
    beside.change(0, spooled_by=None)
    beside.resolving().carry_out()
    assert beside.bytes_of(0).endswith(beside.again[0].data)


def test_a_conflict_that_cannot_be_taken_keeps_no_other_from_it(beside: Beside) -> None:
    beside.take_latest()
    first = next(
        row for row in beside.rows() if row.sop_instance_uid == beside.first[0].sop_instance_uid
    )
    beside.store.put(first.store_key, [b"no DICOM at all"])
    with pytest.raises(HeaderError):
        beside.resolving().carry_out()
    assert beside.bytes_of(0).endswith(beside.first[0].data)
    assert beside.bytes_of(1).endswith(beside.again[1].data)


def test_what_waits_is_a_conflict_with_what_took_the_place_of_the_first(beside: Beside) -> None:
    """Else its series was said to stand behind images that count no more."""
    copy = {"PatientName": "Copy^Name", "StudyInstanceUID": "2.25.5", "SeriesInstanceUID": "2.25.6"}
    beside.reception.receive(offer(edit(beside.files[0], **copy)))
    uid = beside.first[0].sop_instance_uid
    elsewhere = [row for row in beside.rows() if row.study_uid == "2.25.5"]
    with beside.engine.begin() as connection:
        connection.execute(
            update(ConflictRow)
            .where(ConflictRow.data_digest == elsewhere[0].data_digest)
            .values(state=ConflictState.TAKING)
        )
    beside.resolving().carry_out()
    kept = {
        (row.state, row.kept_study_uid, row.kept_series_uid)
        for row in beside.rows()
        if row.sop_instance_uid == uid
    }
    own = elsewhere[0].kept_study_uid, elsewhere[0].kept_series_uid
    assert kept == {
        ("taken", *own),
        ("replaced", "2.25.5", "2.25.6"),
        ("open", "2.25.5", "2.25.6"),
    }


def test_a_conflict_whose_bytes_somebody_lost_does_not_keep_its_study_for_ever(
    beside: Beside,
) -> None:
    beside.take_latest()
    lost = [row.store_key for row in beside.rows()][:1]
    beside.store.delete(lost)
    beside.resolving().carry_out()
    assert "taking" not in beside.states()
    assert beside.states().count("open") == 1  # a person sees it


def test_two_listeners_take_a_conflict_once(
    shared: Beside, engines: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.take_latest()
    within, go_on = threading.Event(), threading.Event()

    def wait(point: str) -> None:
        if point == "listener.conflict.kept" and threading.current_thread().name == "slow":
            within.set()
            go_on.wait(20)

    monkeypatch.setattr("services.listener.keeping.resolving.crashpoint", wait)
    slow = threading.Thread(target=shared.resolving().carry_out, name="slow")
    slow.start()
    assert within.wait(20)
    shared.resolving(engines[1]).carry_out()  # finds another one at it
    go_on.set()
    slow.join(20)
    wait_until(lambda: shared.states() == ["replaced"] * 2 + ["taken"] * 2, 5, "both are taken")
    for number in range(2):
        assert shared.instance(number).spooled_by is None
        assert shared.bytes_of(number).endswith(shared.again[number].data)
    for row in shared.rows():
        if row.state == "replaced":
            (number,) = (
                number
                for number, one in enumerate(shared.first)
                if one.sop_instance_uid == row.sop_instance_uid
            )
            assert shared.store.read(row.store_key).endswith(shared.first[number].data)


def test_what_was_taken_while_somebody_decided_otherwise_stays_taken(
    shared: Beside, engines: tuple[Engine, Engine]
) -> None:
    """Both had seen it open; the one whose decision came second decides nothing."""
    uid = shared.first[0].sop_instance_uid
    counts: list[int] = []
    with shared.engine.begin() as connection:  # the first one, in the middle
        connection.execute(
            update(ConflictRow)
            .where(ConflictRow.sop_instance_uid == uid)
            .values(state=ConflictState.TAKEN)
        )
        second = threading.Thread(
            target=lambda: counts.append(decide(engines[1], uid, latest=False, at=utc_now())[0])
        )
        second.start()
        wait_until(lambda: _is_waiting(engines[1]), 20, "the second one waits for the row")
    second.join(20)
    assert counts == [0]
    assert "taken" in shared.states()


def _is_waiting(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(
            connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            ).scalar_one()
        )

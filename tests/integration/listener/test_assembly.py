"""A quiet or told study becomes a revision with all its instances; late ones make the next."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from services.common.database import RevisionInstanceRow, RevisionRow, StudyRow
from services.common.settings import ListenerSettings, Peer
from services.common.store import StudyStore
from services.common.telemetry import root_traceparent
from services.listener.assembly import Assembly, remaining_quiet
from services.listener.quiet_periods import QuietPeriods
from services.listener.revisions import Trigger, freeze_revision, read_activity, unfrozen_studies
from tests.builders.reception import offer
from tests.builders.series import sound_series
from tests.integration.listener.conftest import Receiving

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
SETTINGS = ListenerSettings(
    quiet_period_s=5.0,
    peers=(
        Peer(name="MR one", ae_title="MR1"),
        Peer(name="slow PACS", ae_title="SLOW", quiet_period_s=20),
        Peer(name="router", ae_title="HASTY", quiet_period_s=1),
    ),
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += dt.timedelta(seconds=seconds)


class Front:
    """Reception and assembly on one frozen clock; the deadlines' thread is not started."""

    def __init__(
        self, engine: Engine, store: StudyStore, folder: Path, receiving: Receiving
    ) -> None:
        self.clock = Clock()
        self.announced: list[tuple[str, int]] = []
        self.assembly = Assembly(
            engine, lambda uid, number: self.announced.append((uid, number)), self.clock
        )
        quiet_periods = QuietPeriods(SETTINGS)
        self.reception = receiving(engine, store, clock=self.clock, quiet_period_s=quiet_periods.of)
        self.offers = [offer(file) for file in sound_series(folder / "dicom")]
        self.study_uid = ""

    def receive(self, *numbers: int, peer: str = "MR1") -> None:
        for number in numbers:
            self.reception.receive(replace(self.offers[number], peer=peer))

    def look(self, engine: Engine) -> None:
        (study,) = study_uids(engine)
        self.study_uid = study
        self.assembly.examine(study)


def study_uids(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(StudyRow.study_uid)).scalars())


def revisions(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        table = RevisionRow.__table__
        return list(connection.execute(select(table).order_by(table.c.number)).all())


def members(engine: Engine, number: int) -> set[str]:
    with engine.connect() as connection:
        return set(
            connection.execute(
                select(RevisionInstanceRow.sop_instance_uid).where(
                    RevisionInstanceRow.number == number
                )
            ).scalars()
        )


def test_a_quiet_study_is_frozen_with_all_its_instances(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1, 2)
    front.clock.advance(4.9)
    front.look(engine)
    assert revisions(engine) == []
    front.clock.advance(0.1)
    front.look(engine)
    (revision,) = revisions(engine)
    assert (revision.number, revision.state, revision.trigger) == (1, "frozen", "quiet")
    assert (revision.instances, revision.last_received_at) == (3, NOON)
    assert revision.frozen_at == NOON + dt.timedelta(seconds=5)
    assert revision.traceparent == root_traceparent(front.study_uid, 1)
    assert members(engine, 1) == {item.sop_instance_uid for item in front.offers[:3]}
    assert front.announced == [(front.study_uid, 1)]


def test_every_instance_begins_the_quiet_period_again(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    for number in range(4):
        front.receive(number)
        front.clock.advance(4)
        front.look(engine)
    assert revisions(engine) == []
    front.clock.advance(1)
    front.look(engine)
    assert [revision.instances for revision in revisions(engine)] == [4]


def test_a_study_waits_for_as_long_as_its_peer_asks_for(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1, peer="HASTY")
    front.clock.advance(1)
    front.look(engine)
    assert [revision.instances for revision in revisions(engine)] == [2]


def test_a_study_of_several_peers_waits_for_the_longest_quiet_period_of_them(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, peer="SLOW")
    front.clock.advance(10)
    front.receive(1, peer="HASTY")
    front.clock.advance(19)
    front.look(engine)
    assert revisions(engine) == []
    front.clock.advance(1)
    front.look(engine)
    assert [revision.instances for revision in revisions(engine)] == [2]


def test_a_restarted_or_other_listener_knows_the_quiet_period_of_a_study(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, peer="SLOW")
    (study_uid,) = study_uids(engine)
    other = Assembly(engine, lambda _uid, _number: None, front.clock)
    front.clock.advance(19)
    other.examine(study_uid)
    assert revisions(engine) == []
    (activity,) = unfrozen_studies(engine)
    assert remaining_quiet(activity, front.clock()) == dt.timedelta(seconds=1)


def test_late_instance_starts_new_revision_that_holds_all(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1)
    front.clock.advance(5)
    front.look(engine)
    front.clock.advance(100)
    front.receive(2)
    front.look(engine)
    assert len(revisions(engine)) == 1
    front.clock.advance(5)
    front.look(engine)
    assert [(item.number, item.instances) for item in revisions(engine)] == [(1, 2), (2, 3)]
    assert members(engine, 2) == {item.sop_instance_uid for item in front.offers[:3]}
    assert members(engine, 1) < members(engine, 2)
    assert front.announced == [(front.study_uid, 1), (front.study_uid, 2)]


def test_a_repeated_instance_starts_no_revision(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1)
    front.clock.advance(5)
    front.look(engine)
    front.receive(0, 1)
    front.clock.advance(5)
    front.look(engine)
    assert len(revisions(engine)) == 1
    assert unfrozen_studies(engine) == []


def test_freezing_twice_is_freezing_once(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1)
    (study_uid,) = study_uids(engine)
    assert front.assembly.freeze(study_uid, Trigger.TOLD) is not None
    assert front.assembly.freeze(study_uid, Trigger.TOLD) is None
    assert freeze_revision(engine, "2.25.404", Trigger.TOLD, NOON) is None
    assert read_activity(engine, "2.25.404") is None
    assert len(revisions(engine)) == 1


def test_a_told_study_is_frozen_before_it_is_quiet(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0, 1)
    (study_uid,) = study_uids(engine)
    frozen = front.assembly.freeze(study_uid, Trigger.TOLD)
    assert frozen is not None
    assert (frozen.number, frozen.instances, frozen.new_instances) == (1, 2, 2)
    assert [item.trigger for item in revisions(engine)] == ["told"]
    front.receive(2)
    again = front.assembly.freeze(study_uid, Trigger.TOLD)
    assert again is not None
    assert (again.number, again.instances, again.new_instances) == (2, 3, 1)


def test_what_another_listener_received_postpones_freezing(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    front = Front(engine, store, tmp_path, receiving)
    front.receive(0)
    other = receiving(engine, store, clock=front.clock)
    front.clock.advance(4)
    other.receive(front.offers[1])
    front.clock.advance(1)
    front.look(engine)  # this one's own deadline
    assert revisions(engine) == []
    front.clock.advance(4)
    front.look(engine)
    assert [revision.instances for revision in revisions(engine)] == [2]

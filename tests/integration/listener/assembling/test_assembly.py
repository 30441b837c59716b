"""A quiet or told study becomes a revision with all its instances; late ones make the next."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

from sqlalchemy import Engine

from services.common.store import StudyStore
from services.common.telemetry import root_traceparent
from services.listener.assembling.assembly import Assembly, remaining_quiet
from services.listener.assembling.revisions import (
    Trigger,
    freeze_revision,
    has_new_instances,
    read_activity,
    unfrozen_studies,
)
from tests.builders.assembling import NOON, Front, members, revisions, study_uids
from tests.builders.series import headers_of, sound_series
from tests.integration.listener.assembling.conftest import MakeFront
from tests.integration.listener.conftest import Receiving


def assert_frozen_only_after(front: Front, seconds: float, instances: int) -> None:
    """The study is looked at and not frozen yet; after so many seconds it is, once."""
    front.look(front.engine)
    assert revisions(front.engine) == []
    front.clock.advance(seconds)
    front.look(front.engine)
    assert [revision.instances for revision in revisions(front.engine)] == [instances]


def test_a_quiet_study_is_frozen_with_all_its_instances(front: Front, engine: Engine) -> None:
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


def test_every_instance_begins_the_quiet_period_again(front: Front, engine: Engine) -> None:
    for number in range(4):
        front.receive(number)
        front.clock.advance(4)
        front.look(engine)
    assert_frozen_only_after(front, seconds=1, instances=4)


def test_a_study_waits_for_as_long_as_its_peer_asks_for(front: Front, engine: Engine) -> None:
    front.receive(0, 1, peer="HASTY")
    front.clock.advance(1)
    front.look(engine)
    assert [revision.instances for revision in revisions(engine)] == [2]


def test_a_study_of_several_peers_waits_for_the_longest_quiet_period_of_them(front: Front) -> None:
    front.receive(0, peer="SLOW")
    front.clock.advance(10)
    front.receive(1, peer="HASTY")
    front.clock.advance(19)
    assert_frozen_only_after(front, seconds=1, instances=2)


def test_a_restarted_or_other_listener_knows_the_quiet_period_of_a_study(
    front: Front, engine: Engine
) -> None:
    front.receive(0, peer="SLOW")
    (study_uid,) = study_uids(engine)
    other = Assembly(engine, lambda _uid, _number: None, front.clock)
    front.clock.advance(19)
    other.examine(study_uid)
    assert revisions(engine) == []
    (activity,) = unfrozen_studies(engine)
    assert remaining_quiet(activity, front.clock()) == dt.timedelta(seconds=1)


def test_silence_counts_only_while_the_doors_are_open(front: Front, engine: Engine) -> None:
    """A listener that was killed and is back: its sender could not have gone on meanwhile."""
    front.receive(0)
    (study_uid,) = study_uids(engine)
    front.clock.advance(3600)
    back = Assembly(engine, lambda _uid, _number: None, front.clock, doors_open=False)
    back.examine(study_uid)
    assert revisions(engine) == []
    back.opened()
    back.examine(study_uid)
    assert revisions(engine) == []
    front.clock.advance(5)
    back.examine(study_uid)
    assert len(revisions(engine)) == 1


def test_late_instance_starts_new_revision_that_holds_all(front: Front, engine: Engine) -> None:
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


def test_a_repeated_instance_starts_no_revision(front: Front, engine: Engine) -> None:
    front.receive(0, 1)
    front.clock.advance(5)
    front.look(engine)
    front.receive(0, 1)
    front.clock.advance(5)
    front.look(engine)
    assert len(revisions(engine)) == 1
    assert unfrozen_studies(engine) == []


def test_freezing_twice_is_freezing_once(front: Front, engine: Engine) -> None:
    front.receive(0, 1)
    (study_uid,) = study_uids(engine)
    assert front.assembly.freeze(study_uid, Trigger.TOLD) is not None
    assert front.assembly.freeze(study_uid, Trigger.TOLD) is None
    assert freeze_revision(engine, "2.25.404", Trigger.TOLD, NOON) is None
    assert read_activity(engine, "2.25.404") is None
    assert len(revisions(engine)) == 1


def test_a_told_study_is_frozen_before_it_is_quiet(front: Front, engine: Engine) -> None:
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
    front: Front, engine: Engine, store: StudyStore, receiving: Receiving
) -> None:
    front.receive(0)
    other = receiving(engine, store, clock=front.clock)
    front.clock.advance(4)
    other.receive(front.offers[1])
    front.clock.advance(1)
    # This one's own deadline is over, the study's is not.
    assert_frozen_only_after(front, seconds=4, instances=2)


def test_what_waits_to_be_registered_has_come_and_a_study_is_not_quiet(
    front: Front, engine: Engine
) -> None:
    front.receive(0)
    front.clock.advance(6)  # longer than the quiet period
    late = [front.offers[1]]

    def registered(_seconds: float) -> bool:
        # An instance was taken in a moment ago and is registered only now.
        while late:
            front.reception.receive(late.pop())
        return True

    announced: list[int] = []
    assembly = Assembly(
        engine, lambda _uid, number: announced.append(number), front.clock, registered
    )
    (study_uid,) = study_uids(engine)
    assembly.examine(study_uid)
    assert announced == []
    front.clock.advance(6)
    assembly.examine(study_uid)
    assert [revision.instances for revision in revisions(engine)] == [2]


def test_a_study_is_not_frozen_while_registering_is_in_trouble(
    front: Front, engine: Engine
) -> None:
    front.receive(0)
    front.clock.advance(6)
    assembly = Assembly(engine, lambda *_: None, front.clock, lambda _seconds: False)
    (study_uid,) = study_uids(engine)
    assembly.examine(study_uid)
    assert revisions(engine) == []


def test_an_instance_registered_late_does_not_make_the_study_older(
    front: Front, engine: Engine
) -> None:
    front.receive(0)
    front.clock.advance(-600)  # acknowledged before that, and found in a spool only now
    front.receive(1)
    (activity,) = unfrozen_studies(engine)
    assert (activity.last_received_at, activity.unfrozen_instances) == (NOON, 2)
    front.clock.advance(601)
    front.receive(2)
    (activity,) = unfrozen_studies(engine)
    assert activity.last_received_at == NOON + dt.timedelta(seconds=1)


def test_new_instances_of_another_study_are_none_of_this_one(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "one")
    front = make_front(files)
    front.receive(0)
    front.look(engine)
    series_uid = headers_of(files)[0].series_uid
    assert has_new_instances(engine, front.study_uid, 0, [series_uid])
    # Real systems give two studies a series of the same UID.
    assert not has_new_instances(engine, "1.2.3", 0, [series_uid])


def test_a_study_that_nobody_looks_after_is_adopted(front: Front, engine: Engine) -> None:
    announced = threading.Event()
    with Assembly(engine, lambda *_: announced.set(), front.clock, adopt_after_s=0.01) as assembly:
        # Its listener died, or was not told that it is registered.
        front.receive(0, 1)
        front.clock.advance(5.1)
        assert announced.wait(20)
        assert assembly.alive()
    assert [revision.instances for revision in revisions(engine)] == [2]


def test_a_study_that_is_being_received_is_left_to_its_listener(
    front: Front, engine: Engine
) -> None:
    assembly = Assembly(engine, lambda *_: None, front.clock, adopt_after_s=60)
    front.receive(0)
    (study_uid,) = study_uids(engine)
    for seconds in (0, 4, 1, 59.9):  # its listener may still be busy with it
        front.clock.advance(seconds)
        assert assembly.adopt() == []
    front.clock.advance(0.1)
    front.receive(1)
    assert assembly.adopt() == []
    front.clock.advance(65)
    assert assembly.adopt() == [study_uid]
    assert assembly.adopt() == []  # it has its deadline

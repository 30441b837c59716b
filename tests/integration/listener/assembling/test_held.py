"""What is being received is not complete, by any trigger."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.common.store import StudyStore
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.expectations import expect_study
from services.listener.assembling.under_way import Ending
from tests.builders.assembling import HOLD_S, Front, revisions
from tests.builders.series import edit, sound_series
from tests.integration.listener.conftest import Receiving


@pytest.fixture
def front(lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Front:
    return Front(lite_engine, store, tmp_path, receiving)


@pytest.fixture
def declaring(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> Front:
    """A front to which instances come that declare to be five."""
    files = sound_series(tmp_path / "declaring")
    for file in files:
        edit(file, NumberOfStudyRelatedInstances=5)
    return Front(lite_engine, store, tmp_path, receiving, files)


def frozen(front: Front) -> list[tuple[str, int]]:
    return [(row.trigger, row.instances) for row in revisions(front.engine)]


def incomplete(front: Front) -> list[dict[str, int] | None]:
    return [row.incomplete for row in revisions(front.engine)]


def test_a_count_that_is_met_waits_while_an_association_holds_the_series(declaring: Front) -> None:
    declaring.bring("one", *range(5))
    declaring.count()
    assert frozen(declaring) == []
    declaring.bring("one", 5, 6)
    declaring.under_way.closed("one", Ending.WHOLE)
    declaring.count()
    declaring.clock.advance(5)
    declaring.look(declaring.engine)
    assert frozen(declaring) == [("quiet", 7)]


def test_what_waits_to_be_registered_when_the_association_ends_is_counted_too(
    declaring: Front,
) -> None:
    late = [5, 6]

    def registered(_seconds: float) -> bool:
        declaring.receive(*late)
        late.clear()
        return True

    assembly = Assembly(
        declaring.engine,
        lambda _uid, _number: None,
        declaring.clock,
        registered,
        under_way=declaring.under_way,
    )
    declaring.bring("one", *range(5))
    declaring.under_way.closed("one", Ending.WHOLE)
    assert assembly.count(declaring.study_uid) is None
    assert frozen(declaring) == []


def test_a_count_that_is_met_counts_when_the_association_has_ended(declaring: Front) -> None:
    declaring.bring("one", *range(5))
    declaring.under_way.closed("one", Ending.WHOLE)
    declaring.count()
    assert frozen(declaring) == [("counted", 5)]


def test_a_count_that_is_met_by_a_series_that_came_back_waits_for_quiet(declaring: Front) -> None:
    for number in range(5):
        declaring.bring(f"{number}", number)
        declaring.under_way.closed(f"{number}", Ending.WHOLE)
    declaring.count()
    assert frozen(declaring) == []
    declaring.clock.advance(4.9)
    declaring.bring("5", 5)
    declaring.under_way.closed("5", Ending.WHOLE)
    declaring.count()
    declaring.look(declaring.engine)
    assert frozen(declaring) == []
    declaring.clock.advance(5)
    declaring.look(declaring.engine)
    assert frozen(declaring) == [("quiet", 6)]


def test_one_association_for_each_instance_makes_one_revision(front: Front) -> None:
    for number in range(7):
        front.bring(f"{number}", number)
        front.under_way.closed(f"{number}", Ending.WHOLE)
        front.clock.advance(3.6)
        front.look(front.engine)
    assert frozen(front) == []
    front.clock.advance(1.4)
    front.look(front.engine)
    assert frozen(front) == [("quiet", 7)]


def test_a_sender_that_pauses_is_waited_for_and_quiet_runs_from_the_release(front: Front) -> None:
    front.bring("one", 0, 1, 2)
    front.clock.advance(20)
    front.look(front.engine)
    assert frozen(front) == []
    front.bring("one", 3)
    front.clock.advance(20)
    front.under_way.closed("one", Ending.WHOLE)
    front.look(front.engine)
    front.clock.advance(4.9)
    front.look(front.engine)
    assert frozen(front) == []
    front.clock.advance(0.1)
    front.look(front.engine)
    assert frozen(front) == [("quiet", 4)]
    assert incomplete(front) == [None]


def test_who_holds_a_series_and_sends_nothing_is_waited_for_until_the_idle_timeout(
    front: Front,
) -> None:
    front.bring("one", 0, 1)
    front.clock.advance(HOLD_S - 1)
    front.under_way.stored("one", "1.9", "1.9.1")  # it goes on with something else
    front.bring("one", 1)
    front.clock.advance(HOLD_S - 1)
    front.look(front.engine)
    assert frozen(front) == []
    front.clock.advance(1)
    front.look(front.engine)
    assert frozen(front) == [("quiet", 2)]


def test_what_is_told_to_be_complete_is_frozen_when_it_is_let_go(front: Front) -> None:
    front.bring("one", 0, 1)
    assert front.assembly.tell(front.study_uid) is None
    assert front.assembly.is_held(front.study_uid)
    front.bring("one", 2)
    front.under_way.closed("one", Ending.WHOLE)
    told = front.assembly.tell(front.study_uid)
    assert told is not None
    assert frozen(front) == [("told", 3)]


def test_what_was_announced_and_did_not_come_is_written_down(declaring: Front) -> None:
    declaring.bring("one", 0, 1, 2)
    declaring.under_way.closed("one", Ending.WHOLE)
    declaring.clock.advance(5)
    declaring.look(declaring.engine)
    assert frozen(declaring) == [("quiet", 3)]
    assert incomplete(declaring) == [{"announced": 5, "received": 3}]


def test_what_its_sender_broke_off_is_written_down_until_somebody_sends_on(front: Front) -> None:
    front.bring("one", 0, 1)
    front.under_way.closed("one", Ending.BROKEN)
    front.clock.advance(5)
    front.look(front.engine)
    assert incomplete(front) == [{"broken_off": 1}]
    front.bring("two", 0, 1, 2)
    front.under_way.closed("two", Ending.WHOLE)
    front.clock.advance(5)
    front.look(front.engine)
    assert incomplete(front) == [{"broken_off": 1}, None]


def test_more_than_was_told_is_no_shortfall(front: Front) -> None:
    front.bring("one", 0, 1, 2)
    expect_study(front.engine, front.study_uid, 2, {})
    front.under_way.closed("one", Ending.WHOLE)
    front.clock.advance(5)
    front.look(front.engine)
    assert incomplete(front) == [None]


def test_what_another_listener_receives_is_held_here_too(declaring: Front) -> None:
    other = declaring.other_listener()
    declaring.bring("one", *range(5))  # all that is declared
    declaring.clock.advance(20)  # its sender pauses, longer than the quiet period
    other.examine(declaring.study_uid)
    assert other.count(declaring.study_uid) is None
    assert other.tell(declaring.study_uid) is None
    assert other.is_held(declaring.study_uid)
    assert frozen(declaring) == []
    declaring.bring("one", 5)
    declaring.under_way.closed("one", Ending.WHOLE)
    other.examine(declaring.study_uid)
    assert frozen(declaring) == []  # quiet runs from the release
    declaring.clock.advance(5)
    other.examine(declaring.study_uid)
    assert frozen(declaring) == [("quiet", 6)]
    assert incomplete(declaring) == [None]


def test_what_a_dead_listener_received_is_held_until_the_idle_timeout(front: Front) -> None:
    other = front.other_listener()
    front.bring("one", 0, 1)
    front.clock.advance(HOLD_S - 1)
    other.examine(front.study_uid)
    assert other.tell(front.study_uid) is None
    assert frozen(front) == []
    front.clock.advance(1 + 5)
    other.examine(front.study_uid)
    assert frozen(front) == [("quiet", 2)]
    assert incomplete(front) == [{"broken_off": 1}]


def test_what_is_told_here_is_frozen_when_another_listener_has_let_it_go(front: Front) -> None:
    other = front.other_listener()
    front.bring("one", 0, 1)
    assert other.tell(front.study_uid) is None
    front.under_way.closed("one", Ending.WHOLE)
    assert other.tell(front.study_uid) is not None
    assert frozen(front) == [("told", 2)]


def test_what_is_told_to_be_complete_says_what_its_sender_broke_off(front: Front) -> None:
    front.bring("one", 0, 1)
    front.under_way.closed("one", Ending.BROKEN)
    assert front.assembly.tell(front.study_uid) is not None
    assert frozen(front) == [("told", 2)]
    assert incomplete(front) == [{"broken_off": 1}]


def test_what_is_told_to_be_complete_says_what_was_announced_and_did_not_come(
    declaring: Front,
) -> None:
    declaring.bring("one", 0, 1)
    declaring.under_way.closed("one", Ending.WHOLE)
    assert declaring.assembly.tell(declaring.study_uid) is not None
    assert incomplete(declaring) == [{"announced": 5, "received": 2}]

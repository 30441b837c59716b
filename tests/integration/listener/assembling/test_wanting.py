"""A study is frozen for a model while other series arrive, and only for what has fully come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select

from services.common.database import InstanceRow, StudyRow
from services.common.identity import derived_uid
from services.common.store import StudyStore
from services.listener.assembling.examination import Wanted
from services.listener.assembling.expectations import expect_study
from services.listener.assembling.revisions import Trigger, read_activity
from services.listener.assembling.under_way import Ending
from services.listener.assembling.wanting import Wanting
from tests.builders.assembling import Front, members, revisions
from tests.builders.head_like import write_head_like
from tests.integration.listener.conftest import Receiving

SLICES = 5
STUDY = derived_uid("test", "study")
A, B, C = (derived_uid("test", "study", name) for name in "abc")
SERIES = {A: range(SLICES), B: range(SLICES, 2 * SLICES), C: range(2 * SLICES, 3 * SLICES)}


class Models:
    """Answers for the orchestrator, and notes what it was asked; the deadlines are the test's."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.ready: list[frozenset[str]] = []
        self.rivals: frozenset[str] = frozenset()
        self.asked = 0
        self.registered = True
        self.wanting = Wanting(
            front.engine,
            front.assembly,
            self._ask,
            lambda _: self.registered,
            front.under_way,
            0.5,
        )

    def _ask(self, study_uid: str) -> Sequence[Wanted]:
        assert study_uid == STUDY
        self.asked += 1
        return [Wanted(series, self.rivals) for series in self.ready]

    def stored(self, association: str, series: str, count: int = SLICES, start: int = 0) -> None:
        """An association brings instances of a series, and they are registered."""
        for number in list(SERIES[series])[start : start + count]:
            self.front.receive(number)
            self.front.under_way.stored(association, STUDY, series)

    def settle(self, *series: str) -> None:
        """Half a second later, what the deadlines' thread does."""
        self.front.clock.advance(0.5)
        for series_uid in series:
            self.wanting.look((STUDY, series_uid))

    def triggers(self) -> list[tuple[str, int]]:
        found = revisions(self.front.engine)
        return [(revision.trigger, revision.instances) for revision in found]


@pytest.fixture
def models(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Models:
    files = [
        file
        for name in "abc"
        for file in write_head_like(tmp_path / "dicom", series=name, slices=SLICES)
    ]
    return Models(Front(engine, store, tmp_path, receiving, files))


def uids_of(models: Models, *series: str) -> set[str]:
    return {models.front.offers[n].sop_instance_uid for one in series for n in SERIES[one]}


def study_row(models: Models) -> Any:
    with models.front.engine.connect() as connection:
        return connection.execute(select(StudyRow.__table__)).one()


def test_a_wanted_series_is_frozen_while_the_next_one_arrives(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.stored("one", B, count=2)
    models.settle(A)
    assert models.triggers() == [("wanted", SLICES)]
    assert members(models.front.engine, 1) == uids_of(models, A)
    assert models.front.announced == [(STUDY, 1)]
    row = study_row(models)
    assert (row.unfrozen_instances, row.newest_revision) == (2, 1)


def test_the_rest_of_the_study_makes_the_next_revision_which_holds_all(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.stored("one", B, count=2)
    models.settle(A)
    models.stored("one", B, start=2, count=3)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(B)  # nothing new is wanted
    assert models.triggers() == [("wanted", SLICES)]
    models.front.clock.advance(5)
    models.front.look(models.front.engine)
    assert models.triggers() == [("wanted", SLICES), ("quiet", 2 * SLICES)]
    assert members(models.front.engine, 2) == uids_of(models, A, B)
    assert study_row(models).unfrozen_instances == 0


def test_a_series_that_is_being_received_never_leaves_early(models: Models) -> None:
    models.ready = [frozenset({A}), frozenset({B})]  # contiguous, but its sender is at it
    models.stored("one", B, count=3)
    models.stored("two", A)
    models.stored("two", C, count=1)
    models.settle(B, A)
    assert members(models.front.engine, 1) == uids_of(models, A)
    assert models.triggers() == [("wanted", SLICES)]


def test_a_selection_waits_for_all_of_its_series(models: Models) -> None:
    models.ready = [frozenset({A, B})]
    models.stored("one", A)
    models.stored("one", B, count=3)
    models.settle(A)
    assert models.triggers() == []
    models.stored("one", B, start=3, count=2)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(B)
    assert models.triggers() == [("wanted", 2 * SLICES)]


def test_a_series_that_has_not_settled_is_waited_for(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.front.clock.advance(0.4)
    models.wanting.look((STUDY, A))
    assert models.asked == 0
    models.front.clock.advance(0.2)
    models.wanting.look((STUDY, A))
    assert models.triggers() == [("wanted", SLICES)]


def test_what_no_model_wants_waits_for_the_quiet_period(models: Models) -> None:
    models.stored("one", A)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(A)
    assert (models.asked, models.triggers()) == (1, [])
    models.front.clock.advance(5)
    models.front.look(models.front.engine)
    assert models.triggers() == [("quiet", SLICES)]


def test_what_broke_off_is_not_examined(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A, count=4)
    models.front.under_way.closed("one", Ending.SILENT)
    models.settle(A)
    assert (models.asked, models.triggers()) == (0, [])


def test_what_a_revision_has_already_is_not_frozen_again(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.front.assembly.freeze(STUDY, Trigger.TOLD)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(A)
    assert models.asked == 0  # nothing is unfrozen
    models.stored("two", B)
    models.front.under_way.closed("two", Ending.WHOLE)
    models.settle(B)
    assert (models.asked, models.triggers()) == (1, [("told", SLICES)])


def test_each_revision_holds_what_the_one_before_has_of_a_series_that_goes_on(
    models: Models,
) -> None:
    models.stored("one", B, count=2)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.front.clock.advance(5)
    models.front.look(models.front.engine)
    models.ready = [frozenset({A})]
    models.stored("late", B, start=2, count=1)
    models.stored("two", A)
    models.front.under_way.closed("two", Ending.WHOLE)
    models.settle(A)
    assert models.triggers() == [("quiet", 2), ("wanted", 2 + SLICES)]
    assert members(models.front.engine, 1) < members(models.front.engine, 2)
    assert study_row(models).unfrozen_instances == 1


def test_series_that_settle_at_the_same_time_are_examined_once(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A, count=2)
    models.stored("one", B, count=2)
    models.stored("one", A, start=2, count=3)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(A, B)
    assert (models.asked, models.triggers()) == (1, [("wanted", SLICES + 2)])


def test_it_is_examined_again_when_the_database_registers_again(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.registered = False
    models.settle(A)
    assert (models.asked, models.triggers()) == (0, [])
    models.registered = True
    models.wanting.look((STUDY, A))
    assert models.triggers() == [("wanted", SLICES)]


def test_removed_images_are_no_reason_to_freeze(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A)
    models.stored("one", B, count=1)
    with models.front.engine.begin() as connection:
        connection.execute(
            InstanceRow.__table__.update()  # pyright: ignore[reportAttributeAccessIssue]
            .where(InstanceRow.series_uid == A)
            .values(deleted_at=models.front.clock())
        )
    models.settle(A)
    assert models.triggers() == []
    activity = read_activity(models.front.engine, STUDY)
    assert activity is not None
    assert activity.newest_revision == 0


def test_a_series_that_came_back_waits_for_the_quiet_period(models: Models) -> None:
    models.ready = [frozenset({A})]
    models.stored("one", A, count=4)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.front.clock.advance(0.4)
    models.stored("two", A, start=4)
    models.front.under_way.closed("two", Ending.WHOLE)
    models.settle(A)
    assert models.triggers() == []
    models.front.clock.advance(4.4)
    models.front.look(models.front.engine)
    assert models.triggers() == []
    models.front.clock.advance(0.1)
    models.front.look(models.front.engine)
    assert models.triggers() == [("quiet", SLICES)]


def test_a_better_series_that_is_being_received_is_waited_for(models: Models) -> None:
    models.ready, models.rivals = [frozenset({A})], frozenset({B})
    models.stored("one", A)
    models.stored("one", B, count=2)
    models.settle(A)
    assert models.triggers() == []
    models.ready, models.rivals = [frozenset({B})], frozenset({A})
    models.stored("one", B, start=2, count=3)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(B)
    assert models.triggers() == [("wanted", 2 * SLICES)]


def test_a_series_of_which_more_was_announced_is_waited_for(models: Models) -> None:
    models.ready = [frozenset({A})]
    expect_study(models.front.engine, STUDY, 3 * SLICES, {A: SLICES})
    models.stored("one", A, count=4)
    models.front.under_way.closed("one", Ending.WHOLE)
    models.settle(A)
    assert models.triggers() == []

"""Retention: which images go, the oldest first, and which stay since something needs them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
import time_machine
from sqlalchemy import Engine, update

from services.common.database import InstanceRow, StudyRow
from services.common.lifecycle import DeliveryState, JobState
from services.common.settings import RetentionSettings
from services.common.store import StudyStore
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.keeping.retention import Retention
from tests.builders.retention import DAY, NOW, OLD, retention_of, stored_keys, studies_left
from tests.builders.stored_studies import delivery, job, receive, received, stored_study


def _at_most(store: StudyStore, budget: int) -> Callable[[], int]:
    """A disk of that many bytes, with nothing on it but the store."""
    return lambda: budget - sum(found.size_bytes for found in store.list(""))


@pytest.mark.usefixtures("clock")
class TestWhatGoes:
    """Which studies' images are removed."""

    def test_nothing_without_a_limit(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 1000 * DAY)
        assert retention_of(engine, store).run() == []
        assert studies_left(store) == {OLD}

    def test_by_age_the_day_after_and_not_the_day_before(
        self, engine: Engine, store: StudyStore, clock: time_machine.Traveller
    ) -> None:
        stored_study(engine, store, OLD, NOW)
        retention = retention_of(engine, store, max_age_d=30)
        clock.move_to(NOW + 30 * DAY)
        assert retention.run() == []
        clock.move_to(NOW + 30 * DAY + dt.timedelta(seconds=1))
        (removed,) = retention.run()
        assert (removed.study_uid, removed.cause) == (OLD, "age")
        assert stored_keys(store) == set()

    def test_by_size_the_oldest_first_and_no_more_than_needed(
        self, engine: Engine, store: StudyStore
    ) -> None:
        for day in (3, 1, 4, 2):
            stored_study(engine, store, f"1.2.{day}", NOW - day * DAY, size=500)
        removed = retention_of(engine, store, max_bytes=2500).run()
        assert [(one.study_uid, one.cause) for one in removed] == [
            ("1.2.4", "size"),
            ("1.2.3", "size"),
        ]
        assert studies_left(store) == {"1.2.1", "1.2.2"}

    def test_by_space_until_the_disk_has_what_it_needs(
        self, engine: Engine, store: StudyStore
    ) -> None:
        for day in (3, 1, 2):
            stored_study(engine, store, f"1.2.{day}", NOW - day * DAY)
        settings = RetentionSettings(min_free_bytes=4000)
        free = _at_most(store, 7000)
        assert free() == 1000
        removed = Retention(engine, store, settings, free=free).run()
        assert [(one.study_uid, one.cause) for one in removed] == [
            ("1.2.3", "space"),
            ("1.2.2", "space"),
        ]
        assert free() >= 4000
        assert Retention(engine, store, settings, free=free).run() == []

    def test_what_is_needed_counts_but_stays(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, "1.2.1", NOW - 9 * DAY)
        job(engine, store, "1.2.1", JobState.INFERRED)
        stored_study(engine, store, "1.2.2", NOW - 8 * DAY)
        removed = retention_of(engine, store, max_bytes=2000).run()
        assert [one.study_uid for one in removed] == ["1.2.2"]


@pytest.mark.usefixtures("clock")
class TestWhatStays:
    """What something still needs is never removed."""

    @pytest.mark.parametrize("state", ["selected", "inferred", "reported"])
    def test_images_of_a_job_under_way(self, engine: Engine, store: StudyStore, state: str) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        job(engine, store, OLD, JobState(state))
        assert retention_of(engine, store, max_age_d=1).run() == []

    @pytest.mark.parametrize("state", ["processed", "refused", "withheld", "failed", "superseded"])
    def test_images_of_an_ended_job_go(self, engine: Engine, store: StudyStore, state: str) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        job(engine, store, OLD, JobState(state))
        assert len(retention_of(engine, store, max_age_d=1).run()) == 1

    @pytest.mark.parametrize("state", ["pending", "sending", "waiting"])
    def test_study_with_a_result_to_be_sent(
        self, engine: Engine, store: StudyStore, state: str
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        uid = job(engine, store, OLD, JobState.PROCESSED)
        delivery(engine, uid, DeliveryState(state))
        assert retention_of(engine, store, max_age_d=1, results="with_images").run() == []

    def test_instances_that_no_revision_has(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        receive(engine, store, [received(OLD, 7, NOW - 8 * DAY, content=b"late")], b"late")
        assert retention_of(engine, store, max_age_d=1).run() == []

    def test_revision_that_nobody_announced(self, engine: Engine, store: StudyStore) -> None:
        receive(engine, store, [received(OLD, 1, NOW - 9 * DAY, content=b"x")], b"x")
        freeze_revision(engine, OLD, Trigger.TOLD, NOW)
        assert retention_of(engine, store, max_age_d=1).run() == []

    def test_revision_that_nobody_decided(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with engine.begin() as connection:
            connection.execute(update(StudyRow).values(newest_revision=2))
        assert retention_of(engine, store, max_age_d=1).run() == []

    def test_instance_that_is_still_in_a_spool(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with engine.begin() as connection:
            connection.execute(update(InstanceRow).values(spooled_by="another"))
        assert retention_of(engine, store, max_age_d=1).run() == []

    def test_results_unless_the_setting_says_otherwise(
        self, engine: Engine, store: StudyStore
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        uid = job(engine, store, OLD, JobState.PROCESSED)
        delivery(engine, uid, DeliveryState.DELIVERED)
        retention_of(engine, store, max_age_d=1).run()
        assert stored_keys(store) == {f"jobs/{uid}/labels.npy.gz", f"jobs/{uid}/seg.dcm"}

    @pytest.mark.parametrize("stays", [DeliveryState.DEAD, DeliveryState.HELD])
    def test_results_of_a_dead_or_held_delivery_even_then(
        self, engine: Engine, store: StudyStore, stays: DeliveryState
    ) -> None:
        for study, state in ((OLD, stays), ("1.2.11", DeliveryState.DELIVERED)):
            stored_study(engine, store, study, NOW - 9 * DAY)
            delivery(engine, job(engine, store, study, JobState.PROCESSED), state)
        removed = retention_of(engine, store, max_age_d=1, results="with_images").run()
        assert {one.study_uid: one.results for one in removed} == {OLD: 0, "1.2.11": 2}
        assert {key.split("/")[1] for key in stored_keys(store)} == {f"{OLD}.99"}

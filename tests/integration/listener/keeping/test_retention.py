"""Retention: the oldest first, never what is needed, and everything told afterwards."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import time_machine
from sqlalchemy import Engine, select, update

from services.common.database import InstanceRow, RevisionInstanceRow, StudyRow, utc_now
from services.common.lifecycle import DeliveryState, JobState
from services.common.settings import AuditSettings, RetentionSettings
from services.common.store import StoreError, StudyStore
from services.common.telemetry.audit import setup_audit
from services.listener.assembling.revisions import Trigger, freeze_revision
from services.listener.keeping import removal
from services.listener.keeping.removal import begin_removal
from services.listener.keeping.retention import Retention
from services.listener.registering.registry import Novelty
from tests.builders.stored_studies import (
    decided_revision,
    delivery,
    job,
    receive,
    received,
    stored_study,
)

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
OLD = "1.2.10"


def _keys(store: StudyStore) -> set[str]:
    return {found.key for found in store.list("")}


def _left(store: StudyStore) -> set[str]:
    return {found.key.split("/")[1] for found in store.list("studies")}


def _retention(engine: Engine, store: StudyStore, **settings: object) -> Retention:
    return Retention(engine, store, RetentionSettings.model_validate(settings))


def _at_most(store: StudyStore, budget: int) -> Callable[[], int]:
    """A disk of that many bytes, with nothing on it but the store."""
    return lambda: budget - sum(found.size_bytes for found in store.list(""))


@pytest.fixture
def clock() -> object:
    """The present, held still."""
    with time_machine.travel(NOW, tick=False) as held:
        yield held


@pytest.fixture
def trail(tmp_path: Path) -> Path:
    """This process's audit trail."""
    setup_audit("listener", tmp_path / "audit", AuditSettings())
    return tmp_path / "audit" / "listener.jsonl"


@pytest.mark.usefixtures("clock")
class TestWhatGoes:
    """Which studies' images are removed."""

    def test_nothing_without_a_limit(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 1000 * DAY)
        assert _retention(engine, store).run() == []
        assert _left(store) == {OLD}

    def test_by_age_the_day_after_and_not_the_day_before(
        self, engine: Engine, store: StudyStore, clock: time_machine.Traveller
    ) -> None:
        stored_study(engine, store, OLD, NOW)
        retention = _retention(engine, store, max_age_d=30)
        clock.move_to(NOW + 30 * DAY)
        assert retention.run() == []
        clock.move_to(NOW + 30 * DAY + dt.timedelta(seconds=1))
        (removed,) = retention.run()
        assert (removed.study_uid, removed.cause) == (OLD, "age")
        assert _keys(store) == set()

    def test_by_size_the_oldest_first_and_no_more_than_needed(
        self, engine: Engine, store: StudyStore
    ) -> None:
        for day in (3, 1, 4, 2):
            stored_study(engine, store, f"1.2.{day}", NOW - day * DAY, size=500)
        removed = _retention(engine, store, max_bytes=2500).run()
        assert [(one.study_uid, one.cause) for one in removed] == [
            ("1.2.4", "size"),
            ("1.2.3", "size"),
        ]
        assert _left(store) == {"1.2.1", "1.2.2"}

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
        removed = _retention(engine, store, max_bytes=2000).run()
        assert [one.study_uid for one in removed] == ["1.2.2"]


@pytest.mark.usefixtures("clock")
class TestWhatStays:
    """What something still needs is never removed."""

    @pytest.mark.parametrize("state", ["selected", "inferred", "reported"])
    def test_images_of_a_job_under_way(self, engine: Engine, store: StudyStore, state: str) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        job(engine, store, OLD, JobState(state))
        assert _retention(engine, store, max_age_d=1).run() == []

    @pytest.mark.parametrize("state", ["processed", "refused", "withheld", "failed", "superseded"])
    def test_images_of_an_ended_job_go(self, engine: Engine, store: StudyStore, state: str) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        job(engine, store, OLD, JobState(state))
        assert len(_retention(engine, store, max_age_d=1).run()) == 1

    @pytest.mark.parametrize("state", ["pending", "sending", "waiting"])
    def test_study_with_a_result_to_be_sent(
        self, engine: Engine, store: StudyStore, state: str
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        uid = job(engine, store, OLD, JobState.PROCESSED)
        delivery(engine, uid, DeliveryState(state))
        assert _retention(engine, store, max_age_d=1, results="with_images").run() == []

    def test_instances_that_no_revision_has(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        receive(engine, store, [received(OLD, 7, NOW - 8 * DAY, content=b"late")], b"late")
        assert _retention(engine, store, max_age_d=1).run() == []

    def test_revision_that_nobody_announced(self, engine: Engine, store: StudyStore) -> None:
        receive(engine, store, [received(OLD, 1, NOW - 9 * DAY, content=b"x")], b"x")
        freeze_revision(engine, OLD, Trigger.TOLD, NOW)
        assert _retention(engine, store, max_age_d=1).run() == []

    def test_revision_that_nobody_decided(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with engine.begin() as connection:
            connection.execute(update(StudyRow).values(newest_revision=2))
        assert _retention(engine, store, max_age_d=1).run() == []

    def test_instance_that_is_still_in_a_spool(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with engine.begin() as connection:
            connection.execute(update(InstanceRow).values(spooled_by="another"))
        assert _retention(engine, store, max_age_d=1).run() == []

    def test_results_unless_the_setting_says_otherwise(
        self, engine: Engine, store: StudyStore
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        uid = job(engine, store, OLD, JobState.PROCESSED)
        delivery(engine, uid, DeliveryState.DELIVERED)
        _retention(engine, store, max_age_d=1).run()
        assert _keys(store) == {f"jobs/{uid}/labels.npy.gz", f"jobs/{uid}/seg.dcm"}

    @pytest.mark.parametrize("stays", [DeliveryState.DEAD, DeliveryState.HELD])
    def test_results_of_a_dead_or_held_delivery_even_then(
        self, engine: Engine, store: StudyStore, stays: DeliveryState
    ) -> None:
        for study, state in ((OLD, stays), ("1.2.11", DeliveryState.DELIVERED)):
            stored_study(engine, store, study, NOW - 9 * DAY)
            delivery(engine, job(engine, store, study, JobState.PROCESSED), state)
        removed = _retention(engine, store, max_age_d=1, results="with_images").run()
        assert {one.study_uid: one.results for one in removed} == {OLD: 0, "1.2.11": 2}
        assert {key.split("/")[1] for key in _keys(store)} == {f"{OLD}.99"}


@pytest.mark.usefixtures("clock")
class TestAfterwards:
    """What is told of a removed study, and what happens when it is sent again."""

    def test_rows_and_audit_tell_it(self, engine: Engine, store: StudyStore, trail: Path) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        _retention(engine, store, max_age_d=1).run()
        with engine.connect() as connection:
            study = connection.execute(select(StudyRow.__table__)).one()
            deleted = connection.execute(select(InstanceRow.deleted_at)).scalars().all()
            members = connection.execute(select(RevisionInstanceRow.sop_instance_uid)).all()
        assert (study.deleted_at, study.deletion_cause) == (NOW, "age")
        assert not study.deletion_pending
        assert deleted == [NOW] * 3
        assert len(members) == 3
        (line,) = trail.read_text(encoding="utf-8").splitlines()
        event = json.loads(line)
        assert event["event"] == "study_deleted"
        assert event["EventIdentification"]["EventOutcomeDescription"] == "age"
        assert OLD in line

    def test_conflicting_copies_go_too(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        store.put(f"conflicts/{OLD}.1.1/abc.dcm", [b"other bytes"])
        store.put("conflicts/1.2.77/abc.dcm", [b"of another study"])
        _retention(engine, store, max_age_d=1).run()
        assert _keys(store) == {"conflicts/1.2.77/abc.dcm"}

    def test_study_sent_again_is_a_new_revision_of_what_came(
        self, engine: Engine, store: StudyStore
    ) -> None:
        keys = stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        _retention(engine, store, max_age_d=1).run()
        again = [received(OLD, n, NOW, content=b"again, anonymised") for n in (1, 2)]
        novelties = receive(engine, store, again, b"again, anonymised")
        assert novelties == [Novelty.STORED] * 2
        frozen = freeze_revision(engine, OLD, Trigger.TOLD, NOW)
        assert frozen is not None
        assert (frozen.number, frozen.instances, frozen.new_instances) == (2, 2, 2)
        assert frozen.new_bytes == 2 * len(b"again, anonymised")
        assert store.read(keys[0]) == b"again, anonymised"
        assert not store.exists(keys[2])

    def test_image_sent_again_during_a_removal_is_kept(
        self, engine: Engine, store: StudyStore
    ) -> None:
        keys = stored_study(engine, store, OLD, NOW - 9 * DAY)
        assert begin_removal(engine, OLD, "age", NOW)
        receive(engine, store, [received(OLD, 1, NOW, content=b"again")], b"again")
        _retention(engine, store).run()
        assert store.read(keys[0]) == b"again"
        assert not store.exists(keys[1])

    def test_study_is_removed_again_when_it_is_old_again(
        self, engine: Engine, store: StudyStore, clock: time_machine.Traveller
    ) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY, instances=3)
        retention = _retention(engine, store, max_age_d=1)
        retention.run()
        receive(engine, store, [received(OLD, 1, NOW, content=b"again")], b"again")
        decided_revision(engine, OLD, NOW)
        assert retention.run() == []
        clock.move_to(NOW + 2 * DAY)
        (removed,) = retention.run()
        assert sum(removed.instances.values()) == 1
        assert _keys(store) == set()


class _Failing(StudyStore):
    """A store whose place does not answer."""

    def delete(self, keys: object) -> None:
        raise StoreError("away", retryable=True)


@pytest.mark.usefixtures("clock")
class TestInterrupted:
    """A removal that does not come to its end is taken up from the rows."""

    def test_by_a_store_that_is_away(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with pytest.raises(StoreError):
            _retention(engine, _Failing(store.root), max_age_d=1).run()
        assert _left(store) == {OLD}
        (removed,) = _retention(engine, store).run()  # also where no limit is set any more
        assert removed.cause == "age"
        assert _keys(store) == set()
        assert _retention(engine, store, max_age_d=1).run() == []

    def test_between_two_portions(
        self, engine: Engine, store: StudyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(removal, "_AT_ONCE", 2)
        stored_study(engine, store, OLD, NOW - 9 * DAY, instances=5)
        portions = iter([None, None])

        def interrupted(_point: str) -> None:
            try:
                next(portions)
            except StopIteration:
                raise KeyboardInterrupt from None

        monkeypatch.setattr(removal, "crashpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _retention(engine, store, max_age_d=1).run()
        assert 0 < len(_keys(store)) < 5
        monkeypatch.undo()
        (removed,) = _retention(engine, store).run()
        assert _keys(store) == set()
        assert sum(removed.instances.values()) == 5


def test_two_listeners_remove_a_study_once(engine: Engine, store: StudyStore) -> None:
    now = utc_now()
    for number in range(8):
        stored_study(engine, store, f"1.2.{number}", now - 9 * DAY)
    start = threading.Barrier(2)

    def turn() -> list[str]:
        retention = _retention(engine, store, max_age_d=1)
        start.wait()
        return [one.study_uid for one in retention.run()]

    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(turn) for _ in range(2)]
    removed = first.result() + second.result()
    assert sorted(removed) == [f"1.2.{number}" for number in range(8)]
    assert _keys(store) == set()


def test_timer_removes_at_once_and_ends_with_the_listener(
    engine: Engine, store: StudyStore
) -> None:
    stored_study(engine, store, OLD, utc_now() - 9 * DAY)
    done = threading.Event()

    class _Told(Retention):
        def run(self) -> list[removal.Removed]:
            removed = super().run()
            done.set()
            return removed

    with _Told(engine, store, RetentionSettings(max_age_d=1)) as retention:
        assert done.wait(20)
        assert retention.alive()
    assert not retention.alive()
    assert _keys(store) == set()


class _Partly(StudyStore):
    """A store that does not delete what lies below some prefixes."""

    kept: tuple[str, ...] = ()

    def delete(self, keys: Sequence[str]) -> None:
        if any(key.startswith(self.kept) for key in keys):
            raise StoreError("not allowed", retryable=True)
        super().delete(keys)


@pytest.mark.usefixtures("clock")
class TestOneThatCannotBeDeleted:
    """What the store keeps of one study keeps no other study's images."""

    def test_the_others_go_and_it_is_told(self, engine: Engine, store: StudyStore) -> None:
        for day in (3, 5, 4):
            stored_study(engine, store, f"1.2.{day}", NOW - day * DAY)
        partly = _Partly(store.root)
        partly.kept = ("studies/1.2.5/",)
        retention = _retention(engine, partly, max_age_d=1)
        for _ in range(2):  # chosen, then taken up again
            with pytest.raises(StoreError):
                retention.run()
            assert _left(store) == {"1.2.5"}
        stored_study(engine, store, "1.2.2", NOW - 2 * DAY)
        with pytest.raises(StoreError):
            retention.run()
        assert _left(store) == {"1.2.5"}
        partly.kept = ("nothing",)
        (removed,) = retention.run()
        assert removed.study_uid == "1.2.5"

    def test_a_store_that_is_away_is_asked_a_few_times_only(
        self, engine: Engine, store: StudyStore
    ) -> None:
        for number in range(20):
            stored_study(engine, store, f"1.2.{number}", NOW - 9 * DAY)
        retention = _retention(engine, _Failing(store.root), max_age_d=1)
        with pytest.raises(StoreError):
            retention.run()
        assert 0 < len(removal.studies_being_removed(engine)) < 5


def test_leaving_waits_for_the_study_under_way_only(engine: Engine, store: StudyStore) -> None:
    for number in range(4):
        stored_study(engine, store, f"1.2.{number}", utc_now() - 9 * DAY)
    begun, leaving = threading.Event(), threading.Event()

    class _Slow(StudyStore):
        def delete(self, keys: Sequence[str]) -> None:
            begun.set()
            assert leaving.wait(20)
            super().delete(keys)

    retention = _retention(engine, _Slow(store.root), max_age_d=1)
    retention.__enter__()
    assert begun.wait(20)
    left = threading.Thread(target=retention.__exit__)
    left.start()
    while not retention.stopping():
        left.join(0.001)
    leaving.set()
    left.join(20)
    assert not retention.alive()
    assert len(_left(store)) == 3

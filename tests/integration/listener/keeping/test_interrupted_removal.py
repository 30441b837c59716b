"""A removal that does not come to its end, or meets what cannot be deleted."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import Engine

from services.common.store import StoreError, StudyStore
from services.listener.keeping import removal
from tests.builders.retention import (
    DAY,
    NOW,
    OLD,
    FailingStore,
    retention_of,
    stored_keys,
    studies_left,
)
from tests.builders.stored_studies import stored_study


class _Partly(StudyStore):
    """A store that does not delete what lies below some prefixes."""

    kept: tuple[str, ...] = ()

    def delete(self, keys: Sequence[str]) -> None:
        if any(key.startswith(self.kept) for key in keys):
            raise StoreError("not allowed", retryable=True)
        super().delete(keys)


@pytest.mark.usefixtures("clock")
class TestInterrupted:
    """A removal that does not come to its end is taken up from the rows."""

    def test_by_a_store_that_is_away(self, engine: Engine, store: StudyStore) -> None:
        stored_study(engine, store, OLD, NOW - 9 * DAY)
        with pytest.raises(StoreError):
            retention_of(engine, FailingStore(store.root), max_age_d=1).run()
        assert studies_left(store) == {OLD}
        (removed,) = retention_of(engine, store).run()  # also where no limit is set any more
        assert removed.cause == "age"
        assert stored_keys(store) == set()
        assert retention_of(engine, store, max_age_d=1).run() == []

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
            retention_of(engine, store, max_age_d=1).run()
        assert 0 < len(stored_keys(store)) < 5
        monkeypatch.undo()
        (removed,) = retention_of(engine, store).run()
        assert stored_keys(store) == set()
        assert sum(removed.instances.values()) == 5


@pytest.mark.usefixtures("clock")
class TestOneThatCannotBeDeleted:
    """What the store keeps of one study keeps no other study's images."""

    def test_the_others_go_and_it_is_told(self, engine: Engine, store: StudyStore) -> None:
        for day in (3, 5, 4):
            stored_study(engine, store, f"1.2.{day}", NOW - day * DAY)
        partly = _Partly(store.root)
        partly.kept = ("studies/1.2.5/",)
        retention = retention_of(engine, partly, max_age_d=1)
        for _ in range(2):  # chosen, then taken up again
            with pytest.raises(StoreError):
                retention.run()
            assert studies_left(store) == {"1.2.5"}
        stored_study(engine, store, "1.2.2", NOW - 2 * DAY)
        with pytest.raises(StoreError):
            retention.run()
        assert studies_left(store) == {"1.2.5"}
        partly.kept = ("nothing",)
        (removed,) = retention.run()
        assert removed.study_uid == "1.2.5"

    def test_a_store_that_is_away_is_asked_a_few_times_only(
        self, engine: Engine, store: StudyStore
    ) -> None:
        for number in range(20):
            stored_study(engine, store, f"1.2.{number}", NOW - 9 * DAY)
        retention = retention_of(engine, FailingStore(store.root), max_age_d=1)
        with pytest.raises(StoreError):
            retention.run()
        assert 0 < len(removal.studies_being_removed(engine)) < 5

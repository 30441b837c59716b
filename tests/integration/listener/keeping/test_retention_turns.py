"""When retention works: by its timer, beside another listener, and until it is left."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Engine

from services.common.database import utc_now
from services.common.settings import RetentionSettings
from services.common.store import StudyStore
from services.listener.keeping import removal
from services.listener.keeping.retention import Retention
from tests.builders.retention import DAY, OLD, retention_of, stored_keys, studies_left
from tests.builders.stored_studies import stored_study


def test_two_listeners_remove_a_study_once(engine: Engine, store: StudyStore) -> None:
    now = utc_now()
    for number in range(8):
        stored_study(engine, store, f"1.2.{number}", now - 9 * DAY)
    start = threading.Barrier(2)

    def turn() -> list[str]:
        retention = retention_of(engine, store, max_age_d=1)
        start.wait()
        return [one.study_uid for one in retention.run()]

    with ThreadPoolExecutor(2) as pool:
        first, second = [pool.submit(turn) for _ in range(2)]
    removed = first.result() + second.result()
    assert sorted(removed) == [f"1.2.{number}" for number in range(8)]
    assert stored_keys(store) == set()


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
    assert stored_keys(store) == set()


def test_leaving_waits_for_the_study_under_way_only(engine: Engine, store: StudyStore) -> None:
    for number in range(4):
        stored_study(engine, store, f"1.2.{number}", utc_now() - 9 * DAY)
    begun, leaving = threading.Event(), threading.Event()

    class _Slow(StudyStore):
        def delete(self, keys: Sequence[str]) -> None:
            begun.set()
            assert leaving.wait(20)
            super().delete(keys)

    retention = retention_of(engine, _Slow(store.root), max_age_d=1)
    retention.__enter__()
    assert begun.wait(20)
    left = threading.Thread(target=retention.__exit__)
    left.start()
    while not retention.stopping():
        left.join(0.001)
    leaving.set()
    left.join(20)
    assert not retention.alive()
    assert len(studies_left(store)) == 3

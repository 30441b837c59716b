"""Retention in tests: its present, what the store still holds, a store that deletes nothing."""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine

from services.common.settings import RetentionSettings
from services.common.store import StoreError, StudyStore
from services.listener.keeping.retention import Retention

NOW = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
OLD = "1.2.10"


def stored_keys(store: StudyStore) -> set[str]:
    """The keys of all that the store holds."""
    return {found.key for found in store.list("")}


def studies_left(store: StudyStore) -> set[str]:
    """The studies of which the store holds images."""
    return {found.key.split("/")[1] for found in store.list("studies")}


def retention_of(engine: Engine, store: StudyStore, **settings: object) -> Retention:
    """Retention by these fields of `RetentionSettings`."""
    return Retention(engine, store, RetentionSettings.model_validate(settings))


class FailingStore(StudyStore):
    """A store whose place does not answer."""

    def delete(self, keys: object) -> None:
        raise StoreError("away", retryable=True)

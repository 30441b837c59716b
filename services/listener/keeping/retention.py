"""Which studies' images leave the study store, and when.

By age, by what all images take, and by the space left on the disk; first the studies that received
nothing for the longest time, and never what is still needed (`removal`). What is to go is a pure
function of what there is (`choose`); `Retention` asks for it on a timer and removes it.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.database import utc_now
from services.common.identity import hashed
from services.common.settings import RetentionSettings
from services.common.store import StoreError, StudyStore
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import REMOVED_BYTES, STUDIES_REMOVED
from services.listener.assembling.expectations import forget_unmet
from services.listener.keeping.removal import (
    Removed,
    begin_removal,
    finish_removal,
    removable_studies,
    stored_bytes,
    studies_being_removed,
)
from services.listener.keeping.watermark import free_bytes
from services.listener.wheel import Wheel

_log = get_logger("listener")

# Studies looked at in one turn; where more are to go, the next turn follows at once.
_AT_ONCE = 500
# Studies in a row that the store does not delete: it is away, and not asked for the others too.
_REFUSED_IN_A_ROW = 3
_TURN = "turn"


class Cause(StrEnum):
    """Why a study's images are removed."""

    AGE = "age"
    SIZE = "size"
    SPACE = "space"


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study whose images may be removed."""

    study_uid: str
    last_received_at: dt.datetime
    images_bytes: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How much room images and others occupy.

    Attributes:
        images_bytes: of all studies, removable or not.
        free_bytes: on the store's disk; None where the store lies on none of ours.
    """

    images_bytes: int
    free_bytes: int | None


def choose(
    studies: Sequence[StoredStudy], usage: Usage, limits: RetentionSettings, now: dt.datetime
) -> Iterator[tuple[StoredStudy, Cause]]:
    """The studies to remove, each with the first limit that asks for its removal.

    Args:
        studies: the removable studies, the oldest first.
        usage: how much room there is.
        limits: the settings.
        now: the present in UTC.
    """
    too_old = None if limits.max_age_d is None else now - dt.timedelta(days=limits.max_age_d)
    too_much = 0 if limits.max_bytes is None else usage.images_bytes - limits.max_bytes
    too_little = 0
    if limits.min_free_bytes is not None and usage.free_bytes is not None:
        too_little = limits.min_free_bytes - usage.free_bytes
    for study in studies:
        if too_old is not None and study.last_received_at < too_old:
            cause = Cause.AGE
        elif too_much > 0:
            cause = Cause.SIZE
        elif too_little > 0:
            cause = Cause.SPACE
        else:
            return
        yield study, cause
        too_much -= study.images_bytes
        too_little -= study.images_bytes


class Retention:
    """Removes what has to go; a context manager that owns a thread.

    With several listeners each has one: a study is removed under a lock of its row, once.

    Args:
        free: bytes left on the store's disk; None where the store lies on none of ours.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        settings: RetentionSettings,
        clock: Callable[[], dt.datetime] = utc_now,
        free: Callable[[], int | None] | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._settings = settings
        self._clock = clock
        self._free = free or self._free_on_disk
        self._wheel: Wheel[str] = Wheel("retention", self._turn)

    def __enter__(self) -> Retention:
        self._wheel.__enter__()
        # Also where nothing is to be removed any more: a removal may have been interrupted.
        self._wheel.arm(_TURN, 0.0)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends after the study under way; what is left is taken up at the next start."""
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._wheel.alive()

    def stopping(self) -> bool:
        """Whether the context is being left."""
        return self._wheel.stopping()

    def run(self) -> list[Removed]:
        """One turn: finishes what was interrupted, then removes what has to go.

        Also forgets what was declared of studies that never came.

        Raises:
            SQLAlchemyError: the database does not answer; the next turn goes on.
            StoreError: of some studies the store does not delete the objects; the others are done.
                The next turn finishes what is half done.
        """
        forget_unmet(self._engine, self._clock())
        interrupted = list(studies_being_removed(self._engine))
        random.shuffle(interrupted)  # those that are never deleted keep no other one behind them
        removed, refusal = self._finish_each(interrupted)
        if self._settings.active:
            more, again = self._finish_each(self._begin_each())
            removed, refusal = removed + more, refusal or again
        if refusal is not None:
            raise refusal
        return removed

    def _begin_each(self) -> Iterator[str]:
        """Decides of one study after the other that its images go."""
        studies = [
            StoredStudy(*row) for row in removable_studies(self._engine, self._clock(), _AT_ONCE)
        ]
        usage = Usage(stored_bytes(self._engine), self._free())
        for study, cause in choose(studies, usage, self._settings, self._clock()):
            if self.stopping():
                return
            if begin_removal(self._engine, study.study_uid, cause, self._clock()):
                yield study.study_uid

    def _finish_each(self, studies: Iterable[str]) -> tuple[list[Removed], StoreError | None]:
        """What was removed, and why the store did not delete another one."""
        removed: list[Removed] = []
        refusal: StoreError | None = None
        in_a_row = 0
        for study_uid in studies:
            try:
                removed += self._finish(study_uid)
                in_a_row = 0
            except StoreError as error:
                refusal = error
                in_a_row += 1
            if self.stopping() or in_a_row == _REFUSED_IN_A_ROW:
                break
        return removed, refusal

    def _turn(self, _key: str) -> None:
        wait_s = self._settings.interval_s
        try:
            if len(self.run()) >= _AT_ONCE:
                wait_s = 0.0
        except (StoreError, SQLAlchemyError) as error:
            # The text of a store's error names what it could not delete.
            _log.error("retention_failed", problem=type(error).__name__, retry_after_s=wait_s)
        self._wheel.arm(_TURN, wait_s)

    def _finish(self, study_uid: str) -> list[Removed]:
        with_results = self._settings.results == "with_images"
        removed = finish_removal(
            self._engine, self._store, study_uid, self._clock, with_results=with_results
        )
        if removed is None:
            return []
        STUDIES_REMOVED.labels(removed.cause).inc()
        REMOVED_BYTES.inc(removed.images_bytes)
        _log.info(
            "study_removed",
            study_uid_hash=hashed(study_uid),
            cause=removed.cause,
            instances=sum(removed.instances.values()),
            bytes=removed.images_bytes,
            results=removed.results,
        )
        return [removed]

    def _free_on_disk(self) -> int | None:
        return None if self._store.folder is None else free_bytes(self._store.folder)

"""How series ended, written down: what a sender broke off is known after a restart, and to others.

While associations send a series its row names their listener (`registering.registry` writes that
with the instances). When the last of them lets go the name goes too; where it broke off, that stays
on the row until a later association brings the series and ends as it should. A listener that was
killed broke off whatever its name still stands on.

A listener may be killed between the end of an association and the writing of it, some milliseconds:
then a series counts as broken off that was not, until it comes again.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet

from sqlalchemy import Engine, exists, select, update

from services.common.database import SeriesRow, StudyRow
from services.common.telemetry import get_logger
from services.listener.assembling.under_way import Ending
from services.listener.wheel import Wheel

_log = get_logger("listener")

_REGISTERED_WITHIN_S = 5.0
_RETRY_AFTER_S = 1.0
# Gives the series of a study whose senders broke off (`broken_off`).
BrokenOff = Callable[[str], AbstractSet[str]]
# The wheel's one key.
_ALL = "endings"


class Endings:
    """Writes endings down as they come; a context manager that owns a thread.

    Args:
        listener_id: under which rows say that this listener receives a series.
        registered: waits until everything acknowledged so far is registered, at most so many
            seconds; False when it is not. The rows of a series exist then, and no registering of
            what came before its end puts our name on them again.
    """

    def __init__(
        self, engine: Engine, listener_id: str, registered: Callable[[float], bool]
    ) -> None:
        self._engine = engine
        self._listener_id = listener_id
        self._registered = registered
        self._changed = threading.Condition()
        # By series UID the last ending, which counts, with its number: the same ending may be noted
        # again while it is being written.
        self._noted: dict[str, tuple[int, Ending]] = {}
        self._numbers = 0
        self._written = 0
        self._wheel: Wheel[str] = Wheel("endings", lambda _: self._write())

    def __enter__(self) -> Endings:
        self._wheel.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes down what was noted, where the database takes it at once."""
        self.flush(_REGISTERED_WITHIN_S)
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._wheel.alive()

    def note(self, series_uid: str, ending: Ending) -> None:
        """The last association that had a series has left it."""
        with self._changed:
            self._numbers += 1
            self._noted[series_uid] = (self._numbers, ending)
        self._wheel.arm(_ALL, 0.0)

    def flush(self, timeout_s: float) -> bool:
        """Waits until every ending noted before this call is written; False when it is not."""
        with self._changed:
            wanted = self._numbers
            return self._changed.wait_for(lambda: self._written >= wanted, timeout_s)

    def _write(self) -> None:
        with self._changed:
            noted, numbers = dict(self._noted), self._numbers
        if not noted:
            return
        if not self._registered(_REGISTERED_WITHIN_S):
            self._wheel.arm(_ALL, _RETRY_AFTER_S)
            return
        endings = {series_uid: ending for series_uid, (_, ending) in noted.items()}
        note_endings(self._engine, self._listener_id, endings)
        with self._changed:
            for series_uid, entry in noted.items():
                if self._noted.get(series_uid) == entry:
                    del self._noted[series_uid]
            self._written = numbers
            self._changed.notify_all()


def note_endings(engine: Engine, listener_id: str, endings: Mapping[str, Ending]) -> None:
    """Writes down how series ended that this listener received."""
    with engine.begin() as connection:
        for series_uid in sorted(endings):  # in one order everywhere
            ending, chosen = endings[series_uid], SeriesRow.series_uid == series_uid
            connection.execute(
                update(SeriesRow)
                .where(chosen, SeriesRow.receiving_by == listener_id)
                .values(receiving_by=None)
            )
            if ending is not Ending.SILENT:
                broken = ending is Ending.BROKEN
                connection.execute(
                    update(SeriesRow)
                    .where(chosen, SeriesRow.broken_off.is_(not broken))
                    .values(broken_off=broken)
                )


def note_lost(engine: Engine, listener_id: str) -> int:
    """What this listener was receiving when it was killed broke off; to be called before it
    receives anything.

    Returns:
        How many series.
    """
    with engine.begin() as connection:
        lost = connection.execute(
            update(SeriesRow)
            .where(SeriesRow.receiving_by == listener_id)
            .values(receiving_by=None, broken_off=True)
            .returning(SeriesRow.series_uid)
        ).all()
    if lost:
        _log.warning("series_broken_off_with_listener", series=len(lost))
    return len(lost)


def broken_off(engine: Engine, study_uid: str, listener_id: str) -> set[str]:
    """Series of a study whose senders broke off, and that nobody has sent whole since.

    What another listener receives, or received when it was killed, is among them: to whoever takes
    the study as it is now, it is not whole.
    """
    others = SeriesRow.receiving_by.is_not(None) & (SeriesRow.receiving_by != listener_id)
    with engine.execution_options(axial_readonly=True).connect() as connection:
        found = connection.execute(
            select(SeriesRow.series_uid).where(
                SeriesRow.study_uid == study_uid, SeriesRow.broken_off | others
            )
        ).scalars()
        return set(found)


def is_received_elsewhere(
    engine: Engine, study_uid: str, now: dt.datetime, listener_id: str, hold_s: float
) -> bool:
    """Whether another listener is receiving a series of a study.

    One that was killed is not told from one that receives, until nothing of the study came for as
    long as a listener waits for a silent sender (`hold_s`).
    """
    others = SeriesRow.receiving_by.is_not(None) & (SeriesRow.receiving_by != listener_id)
    with engine.execution_options(axial_readonly=True).connect() as connection:
        last_received_at = connection.execute(
            select(StudyRow.last_received_at)
            .where(StudyRow.study_uid == study_uid)
            .where(exists().where(SeriesRow.study_uid == study_uid, others))
        ).scalar_one_or_none()
    return last_received_at is not None and now < last_received_at + dt.timedelta(seconds=hold_s)

"""When a study is taken as it is: all of it is there by count, or told so, or quiet for long
enough. (What the models want is looked after by `wanting`.)

One rule stands before all of these: what is being received is not complete (`under_way`). While an
association holds a series of the study nothing is frozen, until the idle timeout; a series that
came back after its senders had left it has to be quiet, whatever was counted; and the quiet period
runs from the moment in which the senders let go. That holds for what another listener of the same
database receives, too, as far as the rows tell. What somebody tells to be complete is frozen as
soon as nobody holds it.

Each new instance has its study counted, and moves its study's deadline. The database decides, not
this process's memory: with several listeners on one database another one may just have received
something. What was not frozen when the process stopped is taken up at the next start; what another
listener left, or this one was not told of, when it is overdue.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.database import utc_now
from services.common.identity import hashed
from services.common.store import StoreError
from services.common.telemetry import get_logger, span
from services.common.telemetry.metrics import REVISIONS_FROZEN
from services.listener.assembling.endings import BrokenOff
from services.listener.assembling.expectations import (
    count_received,
    is_met,
    read_expectation,
    shortfall,
)
from services.listener.assembling.revisions import (
    FrozenRevision,
    Missing,
    StudyActivity,
    Trigger,
    freeze_revision,
    read_activity,
    unfrozen_studies,
)
from services.listener.assembling.under_way import SeriesUnderWay
from services.listener.wheel import Wheel

_log = get_logger("listener")

# When the database does not answer, the next try is this much later.
_RETRY_AFTER_S = 1.0
# What another listener receives: nobody tells here when it is let go.
_LOOK_AGAIN_S = 1.0
# Registering what was taken in takes milliseconds; this long only while the database is away.
_REGISTERED_WITHIN_S = 5.0
# How often is looked for studies that are overdue and have no deadline here: their listener is
# gone, or the answer to a commit was lost. So long it has the study for itself.
_ADOPT_AFTER_S = 60.0
_ADOPT = ("", Trigger.QUIET)
# What was counted is all there; and what models want is taken without what is torn.
_MAY_LACK = frozenset((Trigger.QUIET, Trigger.TOLD))


def remaining_quiet(
    activity: StudyActivity, now: dt.datetime, open_since: dt.datetime | None = None
) -> dt.timedelta | None:
    """How much longer a study has to be quiet: zero when the study is to be frozen now.

    None when nothing is unfrozen. Never longer than the quiet period, also when the clock was
    set back after the last instance.

    Args:
        open_since: when the doors were opened: while they were closed nobody could send.
    """
    if activity.unfrozen_instances == 0:
        return None
    quiet_since = max(activity.last_received_at, open_since or activity.last_received_at)
    remaining = quiet_since + activity.quiet_period - now
    return min(max(remaining, dt.timedelta(0)), activity.quiet_period)


class Assembly:
    """Freezes studies as revisions; a context manager that owns the thread with the deadlines.

    Args:
        announce: called with study UID and number after a revision is frozen.
        clock: the present in UTC.
        registered: waits until everything received so far is registered, at most so many seconds;
            False on timeout. An instance that waits to be registered has come: its study is not
            quiet.
        adopt_after_s: how long a study may be overdue before any listener adopts it.
        under_way: the series that are being received; is to call `let_go`. None: there are none.
        came_back: notes studies whose missing files are there again, and gives them.
        broken_off: gives the series of a study whose senders broke off.
        elsewhere: whether another listener is receiving a series of a study at present.
        doors_open: False while nobody can send yet: then no study is quiet before `opened`.
    """

    def __init__(
        self,
        engine: Engine,
        announce: Callable[[str, int], None],
        clock: Callable[[], dt.datetime] = utc_now,
        registered: Callable[[float], bool] = lambda _seconds: True,
        adopt_after_s: float = _ADOPT_AFTER_S,
        under_way: SeriesUnderWay | None = None,
        came_back: Callable[[dt.datetime], Collection[str]] = lambda _now: (),
        broken_off: BrokenOff = lambda _study_uid: frozenset(),
        elsewhere: Callable[[str, dt.datetime], bool] = lambda _study_uid, _now: False,
        *,
        doors_open: bool = True,
    ) -> None:
        self._doors_open = doors_open
        self._open_since: dt.datetime | None = None
        self._came_back = came_back
        self._broken_off = broken_off
        self._elsewhere = elsewhere
        # When a study was last seen to be received by another listener.
        self._seen_elsewhere: dict[str, dt.datetime] = {}
        self._under_way = under_way or SeriesUnderWay(0.0, lambda _: None)
        self._engine = engine
        self._announce = announce
        self._clock = clock
        self._registered = registered
        self._adopt_after_s = adopt_after_s
        self._told: set[str] = set()  # told to be complete while they were being received
        self._wheel: Wheel[tuple[str, Trigger]] = Wheel("assembly", self._act)

    def __enter__(self) -> Assembly:
        self._wheel.__enter__()
        for activity in unfrozen_studies(self._engine):
            remaining = self._remaining(activity)
            if remaining is not None:
                self.instance_stored(activity.study_uid, remaining.total_seconds())
        self._wheel.arm(_ADOPT, self._adopt_after_s)
        return self

    def __exit__(self, *_: object) -> None:
        self._wheel.__exit__()

    def opened(self) -> None:
        """The doors are open now: from here on silence means that nobody sends."""
        self._open_since = self._clock()
        self._doors_open = True

    def alive(self) -> bool:
        """Whether deadlines are being watched."""
        return self._wheel.alive()

    def instance_stored(self, study_uid: str, quiet_period_s: float) -> None:
        """Has the study counted, and begins its quiet period again.

        Args:
            quiet_period_s: the sender's. Another sender's may be longer: the study's row tells
                when the time has come.
        """
        self._wheel.arm((study_uid, Trigger.COUNTED), 0.0)
        self._wheel.arm((study_uid, Trigger.QUIET), quiet_period_s)

    def let_go(self, study_uid: str) -> None:
        """A sender let go of a series of the study: has the study examined at once."""
        self._wheel.arm((study_uid, Trigger.TOLD), 0.0)
        self._wheel.arm((study_uid, Trigger.COUNTED), 0.0)
        self._wheel.arm((study_uid, Trigger.QUIET), 0.0)

    def adopt(self) -> list[str]:
        """Has overdue studies examined that nobody looks after; returns their UIDs.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        late = dt.timedelta(seconds=self._adopt_after_s)
        now = self._clock()
        return [
            activity.study_uid
            for activity in unfrozen_studies(self._engine)
            if activity.last_received_at + activity.quiet_period + late <= now
            and self._wheel.arm_idle((activity.study_uid, Trigger.QUIET), 0.0)
        ]

    def examine(self, study_uid: str) -> None:
        """Freezes the study if it is quiet, else has it examined again when it may be.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        if not self._registered(_REGISTERED_WITHIN_S):
            self._wheel.arm((study_uid, Trigger.QUIET), _RETRY_AFTER_S)
            return
        activity = read_activity(self._engine, study_uid)
        if activity is None:
            return
        remaining = self._remaining(activity)
        if remaining is None:
            self._seen_elsewhere.pop(study_uid, None)
            return
        wait_s = max(remaining.total_seconds(), self._incomplete_s(activity))
        if wait_s > 0:
            self._wheel.arm((study_uid, Trigger.QUIET), wait_s)
        else:
            self.freeze(study_uid, Trigger.QUIET)

    def _remaining(self, activity: StudyActivity) -> dt.timedelta | None:
        if not self._doors_open and activity.unfrozen_instances:
            return activity.quiet_period
        return remaining_quiet(activity, self._clock(), self._open_since)

    def _incomplete_s(self, activity: StudyActivity) -> float:
        """How much longer a study that nothing else is known of is not complete: held, or not
        quiet since it was let go."""
        quiet_s = activity.quiet_period.total_seconds()
        left_s = self._under_way.since_left_s(activity.study_uid)
        return max(
            self._under_way.held_s(activity.study_uid),
            quiet_s - left_s,
            self._elsewhere_s(activity.study_uid, quiet_s),
        )

    def _elsewhere_s(self, study_uid: str, quiet_s: float = 0.0) -> float:
        """How much later a study is to be looked at because of another listener that receives it,
        or did less than so many seconds ago; 0 when none does."""
        now = self._clock()
        if self._elsewhere(study_uid, now):
            self._seen_elsewhere[study_uid] = now
            return _LOOK_AGAIN_S
        seen_at = self._seen_elsewhere.get(study_uid)
        return 0.0 if seen_at is None else max(0.0, quiet_s - (now - seen_at).total_seconds())

    def count(self, study_uid: str) -> FrozenRevision | None:
        """Freezes the study if what was declared of it is there, no less and no more; else None.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        expected = read_expectation(self._engine, study_uid)
        if expected is None or not is_met(expected, count_received(self._engine, study_uid)):
            return None
        activity = read_activity(self._engine, study_uid)
        if activity is None:
            return None
        quiet_s = activity.quiet_period.total_seconds()
        wait_s = max(
            self._under_way.incomplete_s(study_uid, quiet_s),
            self._elsewhere_s(study_uid, quiet_s),
        )
        if wait_s > 0:
            self._wheel.arm((study_uid, Trigger.COUNTED), wait_s)
            return None
        # What its sender brought last may wait to be registered, and be more than was counted.
        if not self._registered(_REGISTERED_WITHIN_S):
            self._wheel.arm((study_uid, Trigger.COUNTED), _RETRY_AFTER_S)
            return None
        if not is_met(expected, count_received(self._engine, study_uid)):
            return None
        return self.freeze(study_uid, Trigger.COUNTED)

    def tell(self, study_uid: str) -> FrozenRevision | None:
        """Freezes a study that somebody declares complete; None when nothing is unfrozen.

        While a series of the study is being received, nothing is frozen yet (`is_held`): the study
        is frozen when its senders let go.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        held_s = self._held_s(study_uid)
        if held_s > 0:
            self._told.add(study_uid)
            self._wheel.arm((study_uid, Trigger.TOLD), held_s)
            return None
        self._told.discard(study_uid)
        return self.freeze(study_uid, Trigger.TOLD)

    def is_held(self, study_uid: str) -> bool:
        """Whether a series of the study is being received."""
        return self._held_s(study_uid) > 0

    def _held_s(self, study_uid: str) -> float:
        return max(self._under_way.held_s(study_uid), self._elsewhere_s(study_uid))

    def freeze(
        self, study_uid: str, trigger: Trigger, leaving_out: Collection[str] = ()
    ) -> FrozenRevision | None:
        """Freezes the study's next revision now; None when nothing is unfrozen.

        Args:
            leaving_out: series UIDs of which nothing new is taken.
        """
        missing = self._missing(study_uid) if trigger in _MAY_LACK else None
        revision = freeze_revision(
            self._engine, study_uid, trigger, self._clock(), leaving_out, missing
        )
        if revision is None:
            return None
        self._seen_elsewhere.pop(study_uid, None)
        crashpoint("listener.revision.frozen")
        REVISIONS_FROZEN.labels(trigger).inc()
        with span(
            "listener.receive",
            parent=revision.traceparent,
            started_at=revision.receiving_since,
            study_uid_hash=hashed(study_uid),
            revision=revision.number,
            instances=revision.new_instances,
            bytes=revision.new_bytes,
        ):
            self._announce(study_uid, revision.number)
        _log.info(
            "revision_frozen",
            study_uid_hash=hashed(study_uid),
            revision=revision.number,
            trigger=trigger,
            instances=revision.instances,
            new_instances=revision.new_instances,
            new_bytes=revision.new_bytes,
        )
        return revision

    def _missing(self, study_uid: str) -> Missing:
        """Tells what of a study is known to be missing."""
        expected = read_expectation(self._engine, study_uid)
        broken_off = self._broken_off(study_uid)

        def missing(received: Mapping[str, int]) -> dict[str, int] | None:
            found: dict[str, int] = {}
            short = None if expected is None else shortfall(expected, received)
            if short is not None:
                found["announced"], found["received"] = short
            if broken := len(broken_off & received.keys()):
                found["broken_off"] = broken
            return found or None

        return missing

    def _act(self, due: tuple[str, Trigger]) -> None:
        if due != _ADOPT:
            self._look(due)
            return
        self._wheel.arm(_ADOPT, self._adopt_after_s)
        try:
            self.adopt()
            for study_uid in self._came_back(self._clock()):
                self._wheel.arm((study_uid, Trigger.QUIET), 0.0)
        except (SQLAlchemyError, StoreError) as error:
            _log.warning("studies_not_taken_up", problem=type(error).__name__)

    def _freeze_told(self, study_uid: str) -> None:
        if study_uid not in self._told:
            return
        if self._registered(_REGISTERED_WITHIN_S):
            self.tell(study_uid)
        else:
            self._wheel.arm((study_uid, Trigger.TOLD), _RETRY_AFTER_S)

    def _look(self, due: tuple[str, Trigger]) -> None:
        study_uid, trigger = due
        try:
            if trigger is Trigger.COUNTED:
                self.count(study_uid)
            elif trigger is Trigger.TOLD:
                self._freeze_told(study_uid)
            else:
                self.examine(study_uid)
        except SQLAlchemyError as error:
            _log.error(
                "freezing_failed",
                study_uid_hash=hashed(study_uid),
                problem=type(error).__name__,
                retry_after_s=_RETRY_AFTER_S,
            )
            self._wheel.arm(due, _RETRY_AFTER_S)

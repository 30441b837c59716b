"""When a study is taken for what the models want of it, while other series still arrive.

When a series was let go and has settled (`under_way`), the orchestrator is asked what its
models could work on. Where that needs instances that no revision has, and neither a series of it
nor one that could turn out to be better is being received, the study's next revision is frozen
without the series that are being received. Whoever does not answer, and whatever does not pass the
gate, changes nothing: the quiet period remains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from services.listener.assembling.assembly import Assembly
from services.listener.assembling.endings import BrokenOff
from services.listener.assembling.examination import Wanted
from services.listener.assembling.expectations import is_short
from services.listener.assembling.revisions import Trigger, has_new_instances, read_activity
from services.listener.assembling.under_way import Series, SeriesUnderWay
from services.listener.wheel import Wheel

# Registering what was acknowledged takes milliseconds; this long only while the database is away.
_REGISTERED_WITHIN_S = 5.0
_RETRY_AFTER_S = 1.0


class Wanting:
    """Freezes studies for models; a context manager that owns the thread with the deadlines.

    Args:
        ask: gives the selections of a study that could be worked on now.
        registered: waits until everything acknowledged so far is registered, at most so many
            seconds; False on timeout.
        under_way: the series that are being received; is to call `let_go`.
        settle_period_s: how long after a series was let go nothing of it may come.
        broken_off: gives the series of a study whose senders broke off.
    """

    def __init__(
        self,
        engine: Engine,
        assembly: Assembly,
        ask: Callable[[str], Sequence[Wanted]],
        registered: Callable[[float], bool],
        under_way: SeriesUnderWay,
        settle_period_s: float,
        broken_off: BrokenOff = lambda _study_uid: frozenset(),
    ) -> None:
        self._engine = engine
        self._assembly = assembly
        self._ask = ask
        self._registered = registered
        self._settle_period_s = settle_period_s
        self._broken_off = broken_off
        self._under_way = under_way
        self._wheel: Wheel[Series] = Wheel("wanting", self.look)

    def __enter__(self) -> Wanting:
        self._wheel.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether settled series are being looked at."""
        return self._wheel.alive()

    def let_go(self, series: Series) -> None:
        """A series was let go: the series is looked at once it has settled."""
        self._wheel.arm(series, self._settle_period_s)

    def look(self, series: Series) -> None:
        """Has the study examined once the series has settled.

        Raises:
            SQLAlchemyError: the database does not answer; to be called again.
        """
        remaining_s = self._under_way.remaining_s(series)
        if remaining_s is None:
            return  # more of it comes
        if remaining_s > 0:
            self._wheel.arm(series, remaining_s)
            return
        study_uid, series_uid = series
        # What settled at the same time is examined once, with the last of them.
        if self._under_way.settled(study_uid) == {series_uid}:
            if not self._registered(_REGISTERED_WITHIN_S):
                self._wheel.arm(series, _RETRY_AFTER_S)
                return
            self._examine(study_uid)
        self._under_way.mark_examined(series)

    def _examine(self, study_uid: str) -> None:
        activity = read_activity(self._engine, study_uid)
        if activity is None or activity.unfrozen_instances == 0:
            return
        selections = self._ask(study_uid)
        under_way = self._under_way.of_study(study_uid, activity.quiet_period.total_seconds())
        under_way |= self._broken_off(study_uid)
        for wanted in selections:
            if (
                under_way.isdisjoint(wanted.series_uids | wanted.rivals)
                and has_new_instances(
                    self._engine, study_uid, activity.newest_revision, wanted.series_uids
                )
                and not is_short(self._engine, study_uid, wanted.series_uids)
            ):
                self._assembly.freeze(study_uid, Trigger.WANTED, leaving_out=under_way)
                return

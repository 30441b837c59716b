"""Which series are being received at present, from what the doors tell.

A series is *let go* when no open association has it as its current series: the association went on
to another series, or was closed. An association that comes back to a series which it had left sends
its series in turns; it lets none of them go before its end. One that broke off leaves its series
torn: they are under way until somebody sends on and lets go.

Only what this listener receives is known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Torn series that are remembered; of those before them the quiet period alone decides anyway.
_MOST_TORN = 4096

# Study Instance UID and Series Instance UID.
Series = tuple[str, str]


@dataclass(slots=True)
class _Sending:
    # What an open association has at present, and what it had and left.
    current: Series | None = None
    held: set[Series] = field(default_factory=set[Series])
    left: set[Series] = field(default_factory=set[Series])
    in_turns: bool = False


class SeriesUnderWay:
    """Follows the associations; for several threads.

    Args:
        settle_period_s: how long after it was let go nothing of a series may come until it counts
            as received.
        on_let_go: called with a series that was let go; it may be received after the settle
            period.
        clock: seconds.
    """

    def __init__(
        self,
        settle_period_s: float,
        on_let_go: Callable[[Series], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settle_period_s = settle_period_s
        self._on_let_go = on_let_go
        self._clock = clock
        self._lock = threading.Lock()
        self._sending: dict[str, _Sending] = {}
        self._holders: dict[Series, int] = {}
        self._let_go_at: dict[Series, float] = {}
        self._torn: dict[Series, None] = {}  # the latest last

    def stored(self, association: str, study_uid: str, series_uid: str) -> None:
        """An association brought an instance. Costs a comparison while the series is the same."""
        series = (study_uid, series_uid)
        let_go: Series | None = None
        with self._lock:
            sending = self._sending.setdefault(association, _Sending())
            previous = sending.current
            if previous == series:
                return
            sending.current = series
            if series in sending.left:
                sending.in_turns = True
                for known in sending.left:
                    self._hold(sending, known)
                sending.left.clear()
            self._hold(sending, series)
            if previous is not None and not sending.in_turns:
                sending.left.add(previous)
                let_go = previous if self._release(sending, previous) else None
                if let_go is not None:
                    self._let_go_at[let_go] = self._clock()
        if let_go is not None:
            self._on_let_go(let_go)

    def closed(self, association: str, *, orderly: bool) -> None:
        """An association has ended.

        Args:
            orderly: its sender said so itself, after all that it had to send.
        """
        with self._lock:
            sending = self._sending.pop(association, None)
            if sending is None:
                return
            free = [series for series in sorted(sending.held) if self._release(sending, series)]
            if orderly:
                self._let_go_at.update(dict.fromkeys(free, self._clock()))
            else:
                self._torn.update(dict.fromkeys(free))
                while len(self._torn) > _MOST_TORN:
                    del self._torn[next(iter(self._torn))]
        if orderly:
            for series in free:
                self._on_let_go(series)

    def lost(self, prefix: str) -> None:
        """All associations whose names begin so have ended with their receiver."""
        with self._lock:
            lost = [name for name in self._sending if name.startswith(prefix)]
        for association in lost:
            self.closed(association, orderly=False)

    def remaining_s(self, series: Series) -> float | None:
        """How much longer a series has to settle; None when it was not let go."""
        with self._lock:
            at = self._let_go_at.get(series)
            return None if at is None else self._remaining_s(at)

    def settle(self, series: Series) -> None:
        """The series was dealt with: it counts as received until more of it comes."""
        with self._lock:
            self._let_go_at.pop(series, None)

    def settled(self, study_uid: str) -> set[str]:
        """Series of a study whose settle period is over, and that were not dealt with."""
        with self._lock:
            return {uid for study, uid in self._let_go_at if study == study_uid} - self._waiting(
                study_uid
            )

    def of_study(self, study_uid: str) -> set[str]:
        """Series of a study that are held, torn, or not yet settled."""
        with self._lock:
            taken = (*self._holders, *self._torn)
            return {uid for study, uid in taken if study == study_uid} | self._waiting(study_uid)

    def _waiting(self, study_uid: str) -> set[str]:
        of_study = ((uid, at) for (study, uid), at in self._let_go_at.items() if study == study_uid)
        return {uid for uid, at in of_study if self._remaining_s(at) > 0}

    def _remaining_s(self, let_go_at: float) -> float:
        return max(0.0, let_go_at + self._settle_period_s - self._clock())

    def _hold(self, sending: _Sending, series: Series) -> None:
        if series in sending.held:
            return
        sending.held.add(series)
        self._holders[series] = self._holders.get(series, 0) + 1
        self._let_go_at.pop(series, None)
        self._torn.pop(series, None)

    def _release(self, sending: _Sending, series: Series) -> bool:
        """Whether nobody else has it."""
        sending.held.discard(series)
        self._holders[series] -= 1
        if self._holders[series]:
            return False
        del self._holders[series]
        return True

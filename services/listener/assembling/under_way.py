"""Which series are being received at present, from what the doors tell.

A series is *held* while an open association has it as its current series, and until nothing of it
came for the idle timeout. It is *let go* when nobody holds it: the association went on to another
series, or was closed. An association that comes back to a series which it had left sends its series
in turns; it lets none of them go before its end. One that broke off leaves its series torn: they
are under way until somebody sends on and lets go.

A series that was let go and comes again *came back*: then its end is not told by its senders, and
it has to be quiet like a study of which nothing is known.

Only what this listener receives is known here.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

# Series without a holder that are remembered; of those before them the quiet period decides.
_MOST_TORN = 4096
_MOST_LEFT = 4096

# Study Instance UID and Series Instance UID.
Series = tuple[str, str]


class Ending(Enum):
    """How an association, or the last one that had a series, ended."""

    WHOLE = auto()
    """Its sender said so itself, after all that it had to send; or went on to another series."""
    SILENT = auto()
    """It sent nothing more: what it had to send may have come, or not."""
    BROKEN = auto()
    """In the middle, as far as can be told."""


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
        settle_period_s: how long after a series was let go nothing of the series may come until it
            counts as received.
        on_let_go: called with a series that was let go, which may be received after the settle
            period.
        clock: seconds.
        hold_s: a series of which nothing came for so long is held no more.
        on_end: called with a study of which a series is held no more, however that ended.
        on_ending: called with the UID of a series that nobody holds any more, before `on_let_go`
            and `on_end`, and with how its last sender left it.
    """

    def __init__(
        self,
        settle_period_s: float,
        on_let_go: Callable[[Series], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        hold_s: float = math.inf,
        on_end: Callable[[str], None] = lambda _: None,
        on_ending: Callable[[str, Ending], None] = lambda _uid, _ending: None,
    ) -> None:
        self._settle_period_s = settle_period_s
        self._on_let_go = on_let_go
        self._clock = clock
        self._hold_s = hold_s
        self._on_end = on_end
        self._on_ending = on_ending
        self._lock = threading.Lock()
        self._sending: dict[str, _Sending] = {}
        self._holders: dict[Series, int] = {}
        self._came_at: dict[Series, float] = {}  # of those that have holders
        self._let_go_at: dict[Series, float] = {}
        # Of what nobody holds any more, the latest last: what was not left as it should be; when
        # each was left; and of what came again since, whether it did.
        self._torn: dict[Series, None] = {}
        self._left_at: dict[Series, float] = {}
        self._came_back: dict[Series, None] = {}

    def stored(self, association: str, study_uid: str, series_uid: str) -> None:
        """An association brought an instance. Costs a comparison while the series is the same."""
        series = (study_uid, series_uid)
        let_go: Series | None = None
        with self._lock:
            sending = self._sending.setdefault(association, _Sending())
            previous = sending.current
            if previous == series:
                self._note(series)
                return
            sending.current = series
            if series in sending.left:
                sending.in_turns = True
                for known in sending.left:
                    self._hold(sending, known, came_back=False)  # it is the same sender's
                sending.left.clear()
            self._hold(sending, series)
            if previous is not None and not sending.in_turns:
                sending.left.add(previous)
                let_go = previous if self._release(sending, previous) else None
                if let_go is not None:
                    self._note_let_go([let_go])
        if let_go is not None:
            self._on_ending(let_go[1], Ending.WHOLE)
            self._on_let_go(let_go)
            self._on_end(let_go[0])

    def closed(self, association: str, ending: Ending) -> None:
        """An association has ended."""
        with self._lock:
            sending = self._sending.pop(association, None)
            if sending is None:
                return
            free = [series for series in sorted(sending.held) if self._release(sending, series)]
            if ending is Ending.WHOLE:
                self._note_let_go(free)
            else:
                self._torn.update(dict.fromkeys(free))
                _forget_oldest(self._torn, _MOST_TORN)
        for _, series_uid in free:
            self._on_ending(series_uid, ending)
        if ending is Ending.WHOLE:
            for series in free:
                self._on_let_go(series)
        for study_uid in dict.fromkeys(study for study, _ in free):
            self._on_end(study_uid)

    def lost(self, prefix: str) -> None:
        """All associations whose names begin so have ended with their receiver."""
        with self._lock:
            lost = [name for name in self._sending if name.startswith(prefix)]
        for association in lost:
            self.closed(association, Ending.BROKEN)

    def held_s(self, study_uid: str) -> float:
        """How much longer a series of a study may be held at most; 0 while none is."""
        with self._lock:
            held = [self._held_s(series) for series in self._holders if series[0] == study_uid]
            return max(held, default=0.0)

    def incomplete_s(
        self, study_uid: str, quiet_period_s: float, series_uids: Collection[str] | None = None
    ) -> float:
        """How much longer series of a study are not complete, whatever else is known of them; 0
        when they may be.

        A series that is held is not complete, and a series that came back has to be quiet since its
        senders left it.

        Args:
            study_uid: the study.
            quiet_period_s: how long a series that came back has to be quiet.
            series_uids: the series that matter; None for all of the study.
        """
        with self._lock:
            known = dict.fromkeys((*self._holders, *self._came_back))
            wanted = [
                series
                for series in known
                if series[0] == study_uid and (series_uids is None or series[1] in series_uids)
            ]
            return max((self._incomplete_s(one, quiet_period_s) for one in wanted), default=0.0)

    def since_left_s(self, study_uid: str) -> float:
        """How long ago a sender last left a series of the study; infinite if none did."""
        with self._lock:
            left = [at for (study, _), at in self._left_at.items() if study == study_uid]
            return self._clock() - max(left) if left else math.inf

    def remaining_s(self, series: Series) -> float | None:
        """How much longer a series has to settle; None when the series was not let go."""
        with self._lock:
            at = self._let_go_at.get(series)
            return None if at is None else self._remaining_s(at)

    def mark_examined(self, series: Series) -> None:
        """Notes that a settled series was examined; it counts as received until more comes."""
        with self._lock:
            self._let_go_at.pop(series, None)

    def settled(self, study_uid: str) -> set[str]:
        """Series of a study whose settle period is over, and that were not examined."""
        with self._lock:
            return {uid for study, uid in self._let_go_at if study == study_uid} - self._waiting(
                study_uid
            )

    def of_study(self, study_uid: str, quiet_period_s: float = 0.0) -> set[str]:
        """Series of a study that are held, torn, not quiet since they came back, or not settled."""
        with self._lock:
            held = [series for series in self._holders if self._held_s(series) > 0]
            held += [*self._torn]
            held += [one for one in self._came_back if self._incomplete_s(one, quiet_period_s) > 0]
            return {uid for study, uid in held if study == study_uid} | self._waiting(study_uid)

    def _waiting(self, study_uid: str) -> set[str]:
        of_study = ((uid, at) for (study, uid), at in self._let_go_at.items() if study == study_uid)
        return {uid for uid, at in of_study if self._remaining_s(at) > 0}

    def _remaining_s(self, let_go_at: float) -> float:
        return max(0.0, let_go_at + self._settle_period_s - self._clock())

    def _held_s(self, series: Series) -> float:
        if series not in self._holders:
            return 0.0
        return max(0.0, self._came_at[series] + self._hold_s - self._clock())

    def _incomplete_s(self, series: Series, quiet_period_s: float) -> float:
        held_s = self._held_s(series)
        if held_s > 0 or series not in self._came_back:
            return held_s
        left_at = self._left_at.get(series, -math.inf)
        return max(0.0, left_at + quiet_period_s - self._clock())

    def _note(self, series: Series) -> None:
        now = self._clock()
        if now - self._came_at[series] >= self._hold_s:  # it was held no more
            self._note_return(series)
        self._came_at[series] = now

    def _note_let_go(self, series: Collection[Series]) -> None:
        self._let_go_at.update(dict.fromkeys(series, self._clock()))
        _forget_oldest(self._let_go_at, _MOST_LEFT)  # where nobody examines them

    def _note_return(self, series: Series) -> None:
        self._came_back[series] = None
        _forget_oldest(self._came_back, _MOST_LEFT)

    def _hold(self, sending: _Sending, series: Series, *, came_back: bool = True) -> None:
        if series in self._holders:
            self._note(series)
        else:
            self._came_at[series] = self._clock()
        if series in sending.held:
            return
        sending.held.add(series)
        if came_back and series not in self._holders and series in self._left_at:
            self._note_return(series)
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
        del self._came_at[series]
        self._left_at.pop(series, None)  # the latest last
        self._left_at[series] = self._clock()
        _forget_oldest(self._left_at, _MOST_LEFT)
        return True


def _forget_oldest(remembered: dict[Series, Any], most: int) -> None:
    while len(remembered) > most:
        del remembered[next(iter(remembered))]

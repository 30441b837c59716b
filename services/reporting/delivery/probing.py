"""When a destination that was not reached is looked for again.

What waits for it waits with growing pauses. A C-ECHO costs it nothing and us no attempt; when it
is answered, the pauses are over. A destination that answers the echo and then gives no association
for results is probed less and less often, so that attempts are not used up by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_GROWS_BY = 2.0


class Probing:
    """Times of the probes of one destination; for one thread.

    Args:
        every_s: between two probes.
        longest_s: between two probes at most, when answered probes led to no association for
            results.
    """

    def __init__(
        self, every_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shortest_s = every_s
        self._longest_s = max(every_s, longest_s)
        self._clock = clock
        self._wait_s = every_s
        self._next = clock()

    def not_reached(self) -> None:
        """An association for results was not to be had."""
        self._next = self._clock() + self._wait_s

    def answered(self) -> None:
        """A probe was answered: what waits is tried, and the next probe waits longer."""
        self._wait_s = min(self._wait_s * _GROWS_BY, self._longest_s)
        self._next = self._clock() + self._wait_s

    def reached(self) -> None:
        """An association for results was there."""
        self._wait_s = self._shortest_s
        self._next = self._clock() + self._wait_s

    def waits_s(self) -> float:
        """How long until the next probe; not positive when the probe is due."""
        return self._next - self._clock()

"""A few threads that share the planes of a volume.

numpy lets go of the interpreter while it moves data, so two threads halve the passes over memory
that surround a network. Who did which plane never shows in a result.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

__all__ = ["Crew"]

# Below this many planes the hand-over costs more than the work.
_FEWEST = 16


class Crew:
    """Threads for the life of a pipeline."""

    def __init__(self, threads: int) -> None:
        self._threads: Final = max(1, threads)
        self._pool: Final = ThreadPoolExecutor(self._threads, thread_name_prefix="crew")

    def share(self, count: int, work: Callable[[int, int], None], fewest: int = _FEWEST) -> None:
        """Call `work(first, end)` for consecutive parts of range(count), one per thread.

        Fewer than `fewest` are not worth sharing. Returns when all are done; the first error is
        raised.
        """
        if self._threads == 1 or count < fewest:
            work(0, count)
            return
        cuts = [count * part // self._threads for part in range(self._threads + 1)]
        parts = [self._pool.submit(work, first, end) for first, end in pairwise(cuts[1:])]
        work(cuts[0], cuts[1])
        for part in parts:
            part.result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

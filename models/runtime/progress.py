"""How far a run has come: told now and then, by the passes of its networks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["NOBODY", "Caller", "Progress"]

# What ends sooner tells nothing: nobody has looked by then.
_FIRST_S: Final = 1.0
_EVERY_S: Final = 0.5


def _nobody_listens(_job_uid: str, _share: float) -> None:
    """Of a caller who does not ask how far a job has come."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for a run.

    Attributes:
        is_cancelled: whether nobody waits any more; asked before each pass of a network.
        tell: gets a job's UID and the share of it that is done.
    """

    is_cancelled: Callable[[], bool] = bool
    tell: Callable[[str, float], None] = _nobody_listens


NOBODY: Final = Caller()


class Progress:
    """Counts the passes of a run's networks.

    Every step that runs networks counts the same: how many passes a later one has is known when
    its image is there.

    Args:
        steps: how many steps of the plan run networks.
        tell: gets the share that is done, 0 to 1; called from the thread of the run.
    """

    def __init__(self, steps: int, tell: Callable[[float], None]) -> None:
        self._steps: Final = steps
        self._tell: Final = tell
        self._done = 0.0
        self._told_next = time.monotonic() + _FIRST_S

    def begin(self, passes: int) -> Callable[[int], None]:
        """A step begins that has so many passes.

        Returns:
            What is called with how many more of them are done, or need not be made. Steps that are
            merged make theirs in turn.
        """
        share = 1.0 / (max(passes, 1) * self._steps)
        return lambda more: self._add(share * more)

    def _add(self, share: float) -> None:
        self._done += share
        now = time.monotonic()
        if now >= self._told_next:
            self._told_next = now + _EVERY_S
            self._tell(min(self._done, 1.0))

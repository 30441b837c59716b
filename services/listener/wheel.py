"""Things that are due at a time, and one thread that waits for the next of them.

The thread sleeps on a condition until the earliest deadline; arming an earlier one wakes it.
There is no polling.
"""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from services.common.telemetry import get_logger
from services.listener.backoff import backoff_s

_log = get_logger("listener")

K = TypeVar("K", bound=Hashable)


class Deadlines(Generic[K]):
    """Deadlines by key; a key has one deadline, the last one given. Not for several threads."""

    def __init__(self) -> None:
        self._current: dict[K, float] = {}
        # Entries whose time is no longer the key's current one are skipped when they surface.
        self._heap: list[tuple[float, int, K]] = []
        self._entries = 0

    def __len__(self) -> int:
        return len(self._current)

    def __contains__(self, key: object) -> bool:
        return key in self._current

    def arm(self, key: K, at: float) -> None:
        """Sets or moves the deadline of `key`."""
        self._current[key] = at
        self._entries += 1
        heapq.heappush(self._heap, (at, self._entries, key))

    def earliest(self) -> float | None:
        """The next deadline; None when there is none."""
        while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> list[K]:
        """Takes out every key whose deadline has come, the earliest first."""
        due: list[K] = []
        while (earliest := self.earliest()) is not None and earliest <= now:
            _, _, key = heapq.heappop(self._heap)
            del self._current[key]
            due.append(key)
        return due


class Wheel(Generic[K]):
    """Calls `act` for each key when its time has come, one after the other, in one thread.

    Args:
        name: the thread's name.
        act: may arm its key again. Should it raise what it did not plan for, its key is acted on
            again later: one study must not keep the others from being acted on.
    """

    def __init__(self, name: str, act: Callable[[K], None]) -> None:
        self._act = act
        self._deadlines: Deadlines[K] = Deadlines()
        self._changed = threading.Condition()
        self._stopped = False
        self._failures: dict[K, int] = {}  # the thread's own
        self._thread = threading.Thread(target=self._turn, name=name, daemon=True)

    def __enter__(self) -> Wheel[K]:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops after the action under way; what is armed stays undone."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def arm(self, key: K, after_s: float) -> None:
        """Has `key` acted on after that time; moves the key's deadline if there is one."""
        with self._changed:
            self._deadlines.arm(key, time.monotonic() + after_s)
            self._changed.notify()

    def arm_idle(self, key: K, after_s: float) -> bool:
        """As `arm`, of a key without a deadline; False for a key with one, whose deadline stays."""
        with self._changed:
            if key in self._deadlines:
                return False
            self.arm(key, after_s)
            return True

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stopping(self) -> bool:
        """Whether the context is being left: an action of several steps ends after this step."""
        return self._stopped

    def _turn(self) -> None:
        while True:
            with self._changed:
                due = self._deadlines.pop_due(time.monotonic())
                while not due and not self._stopped:
                    earliest = self._deadlines.earliest()
                    wait_s = None if earliest is None else max(0.0, earliest - time.monotonic())
                    self._changed.wait(wait_s)
                    due = self._deadlines.pop_due(time.monotonic())
                if self._stopped:
                    return
            for key in due:
                if self._stopped:
                    return
                self._try(key)

    def _try(self, key: K) -> None:
        try:
            self._act(key)
        except Exception as error:  # noqa: BLE001 - nobody else would act on the other keys
            failures = self._failures.get(key, 0) + 1
            self._failures[key] = failures
            wait_s = backoff_s(failures, random.random())  # noqa: S311 - no secret
            # Neither the key nor the text: both may hold a UID.
            _log.error(
                "action_failed",
                action=self._thread.name,
                problem=type(error).__name__,
                failures=failures,
                retry_after_s=round(wait_s, 3),
            )
            self.arm(key, wait_s)
        else:
            self._failures.pop(key, None)

"""Work that a thread does every few seconds, as long as a context lasts."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from services.common.telemetry import get_logger

_log = get_logger("orchestrator")

# How long the end of a context waits for the round that is under way.
_STOP_S = 5.0


class PeriodicThread(ABC):
    """A thread that does a round of work every few seconds; a context manager that owns the thread.

    A round that fails is logged and does not end the thread: a database or a disk may be away
    for a while.

    Args:
        name: the thread's.
        every_s: between the end of a round and the begin of the next.
        first_after_s: how long the first round waits.
        failed: the event that is logged when a round fails.
    """

    def __init__(
        self, name: str, every_s: float, *, first_after_s: float = 0.0, failed: str
    ) -> None:
        self._every_s = every_s
        self._first_after_s = first_after_s
        self._failed = failed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._begin()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(_STOP_S)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @abstractmethod
    def _begin(self) -> None:
        """What is done once, before the thread starts; what it raises reaches who enters."""

    @abstractmethod
    def _round(self) -> None:
        """What the thread does in each round."""

    def _run(self) -> None:
        pause_s = self._first_after_s
        while not self._stop.wait(pause_s):
            try:
                self._round()
            except Exception:  # noqa: BLE001 - whatever a round meets, the next may not
                _log.exception(self._failed)
            pause_s = self._every_s

"""Giving working memory back when nothing has run for a while.

A network's working memory (hundreds of megabytes) makes the next run faster and is useless
until then. It is kept while requests follow each other and given back when they stop.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

__all__ = ["IdleRelease"]


class IdleRelease:
    """Calls `release` once nothing was busy for `after_s` seconds.

    One thread of its own; `busy()` and `release` exclude each other by a lock, so that memory
    is never taken from a running network. `close()` ends the thread.
    """

    def __init__(self, release: Callable[[], None], after_s: float) -> None:
        self._release: Final = release
        self._after_s: Final = after_s
        self._running: Final = threading.Lock()
        self._used: Final = threading.Event()
        self._last_used = time.monotonic()
        self._closed: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._watch, name="idle-release", daemon=True)
        self._thread.start()

    @contextmanager
    def busy(self) -> Generator[None]:
        """Hold while a run is going on."""
        with self._running:
            try:
                yield
            finally:
                self._last_used = time.monotonic()
                self._used.set()

    def close(self) -> None:
        """End the watching thread and wait for it."""
        self._closed.set()
        self._used.set()
        self._thread.join(timeout=5.0)

    def _watch(self) -> None:
        while self._await_use():
            with self._running:
                idle_s = time.monotonic() - self._last_used
                if idle_s >= self._after_s:
                    self._used.clear()
                    self._release()
                    _trim_heap()

    def _await_use(self) -> bool:
        """Wait for a use and then until it may be long enough ago; False when closed."""
        self._used.wait()
        rest_s = self._last_used + self._after_s - time.monotonic()
        return not self._closed.wait(max(rest_s, 0.0))


def _trim_heap() -> None:
    """Ask the C library to return freed heap pages; where it cannot (musl), nothing is lost."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

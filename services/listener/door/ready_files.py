"""Files of the spool, made in advance and handed out in the order in which they are asked for."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from pathlib import Path

SUFFIX = ".dcm"

# How long the answer to how much space is left is believed.
_FREE_FOR_S = 0.05
# Files made at a time: one sync of the entries for as many instances. More are made when half of
# them are taken, so that an instance seldom waits for them.
_MADE_AT_ONCE = 64


class ReadyFiles:
    """Open, empty files whose entries in the folder are on disk.

    Args:
        folder: it exists, and nobody else makes files in it.

    Raises:
        OSError: the folder cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._ready: deque[tuple[str, int]] = deque()
        self._waiting: deque[_Turn] = deque()
        self._changed = threading.Condition()
        self._wanted = True
        self._closed = False
        # Bytes, and until when they are believed: one value, so that no thread sees half of it.
        self._free = (0, -math.inf)
        # Names of an earlier process in this folder lie before ours, should they still be there.
        self._start = f"{time.time_ns():x}"
        self._number = 0
        self._thread = threading.Thread(target=self._make, name="spool", daemon=True)
        self._thread.start()

    def pop(self) -> tuple[str, int]:
        """A path and a descriptor; who asked first is served first.

        Raises:
            OSError: no file can be made at present.
        """
        with self._changed:
            if len(self._ready) <= _MADE_AT_ONCE // 2:
                self._want()
            if self._ready:
                return self._ready.popleft()
            turn = _Turn()
            self._waiting.append(turn)
        return turn.take()

    def free_bytes(self) -> int:
        """Bytes that may still be written on the folder's disk; 0 where the disk does not answer.

        As of a moment ago: callers ask before every instance.
        """
        now = time.monotonic()
        free, until = self._free
        if now >= until:
            try:
                found = os.fstatvfs(self._descriptor)
                free = found.f_bavail * found.f_frsize
            except OSError:
                free = 0
            self._free = (free, now + _FREE_FOR_S)
        return free

    def close(self) -> None:
        """Removes the files that nobody took."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        for path, descriptor in self._ready:
            give_up(path, descriptor)
        self._ready.clear()
        os.close(self._descriptor)

    def _want(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._changed.notify_all()

    def _make(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closed:
                    self._changed.wait()
                if self._closed:
                    while self._waiting:
                        self._waiting.popleft().give(OSError("The spool was closed."))
                    return
                number = _MADE_AT_ONCE + len(self._waiting)
            made: deque[tuple[str, int]] = deque()
            failure: OSError | None = None
            try:
                for _ in range(number):
                    made.append(self._one())
                os.fsync(self._descriptor)
            except OSError as error:
                failure = error
                for path, descriptor in made:  # their entries may not be on disk
                    give_up(path, descriptor)
                made.clear()
            with self._changed:
                # Nobody is passed over: with many associations at once, whoever woke last would
                # find the files taken again and again.
                while self._waiting and (made or failure is not None):
                    turn = self._waiting.popleft()
                    turn.give(failure if failure is not None else made.popleft())
                self._ready.extend(made)
                self._wanted = bool(self._waiting)

    def _one(self) -> tuple[str, int]:
        self._number += 1
        path = f"{self._folder}/{self._start}-{self._number:07d}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        return path, descriptor


class _Turn:
    """One who waits for a file."""

    __slots__ = ("_given", "_got")

    def __init__(self) -> None:
        self._got = threading.Lock()
        self._got.acquire()
        self._given: tuple[str, int] | OSError | None = None  # None until it is

    def give(self, what: tuple[str, int] | OSError) -> None:
        self._given = what
        self._got.release()

    def take(self) -> tuple[str, int]:
        self._got.acquire()
        assert self._given is not None
        if isinstance(self._given, OSError):
            raise self._given
        return self._given


def give_up(path: str, descriptor: int) -> None:
    """Closes and removes a file."""
    os.close(descriptor)
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - a receiver handles paths as text

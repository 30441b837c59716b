"""How many associations are open, in all receivers together and by peer.

One row of counters per receiver in a file in memory that all of them map; each writes its own row.
Whoever admits an association holds the file's lock, so that two receivers cannot both take the
last slot. The main process clears the row of a receiver that died.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

_COUNTER = struct.Struct("<i")


class Slots:
    """The counters, seen by one process.

    Args:
        descriptor: of the file in memory; `create` makes one.
        receivers: number of rows.
        peers: names of the configured peers, a column each beside the one for all.
        row: this receiver's; -1 for the main process, which only reads and clears.
    """

    def __init__(self, descriptor: int, receivers: int, peers: Sequence[str], row: int) -> None:
        self._descriptor = descriptor
        self._columns = 1 + len(peers)
        self._names = tuple(peers)
        self._receivers = receivers
        self._row = row
        self._memory = mmap.mmap(descriptor, _size(receivers, len(peers)))
        self._lock = threading.Lock()

    @staticmethod
    def create(receivers: int, peers: int) -> int:
        """A file in memory with all counters at zero; returns its descriptor."""
        descriptor = os.memfd_create("axial-slots")
        os.ftruncate(descriptor, _size(receivers, peers))
        return descriptor

    def open_associations(self) -> int:
        """How many are open, in all."""
        return sum(self._read(row, 0) for row in range(self._receivers))

    def open_by_peer(self) -> dict[str, int]:
        """How many are open, by peer."""
        return {
            name: sum(self._read(row, column) for row in range(self._receivers))
            for column, name in enumerate(self._names, 1)
        }

    @contextmanager
    def admitting(self) -> Generator[Callable[[str], None]]:
        """While this context is open no other receiver admits; yields what occupies a slot."""
        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield lambda peer: self._add(peer, 1)
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def give_back(self, peer: str) -> None:
        """Frees a slot of a peer."""
        with self._lock:
            self._add(peer, -1)

    def clear(self, row: int) -> None:
        """Frees all that a receiver held that is no more."""
        for column in range(self._columns):
            _COUNTER.pack_into(self._memory, (row * self._columns + column) * _COUNTER.size, 0)

    def _read(self, row: int, column: int) -> int:
        at = (row * self._columns + column) * _COUNTER.size
        return int(_COUNTER.unpack_from(self._memory, at)[0])

    def _add(self, peer: str, change: int) -> None:
        columns = [0] + ([1 + self._names.index(peer)] if peer in self._names else [])
        for column in columns:
            value = self._read(self._row, column) + change
            at = (self._row * self._columns + column) * _COUNTER.size
            _COUNTER.pack_into(self._memory, at, value)


def _size(receivers: int, peers: int) -> int:
    return receivers * (1 + peers) * _COUNTER.size

"""A few associations are worked for at a time, in the order in which they have something."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager

from services.dimse.wire import Wire


class Turns:
    """Places for threads that work; where none is free, they are served in the order of coming.

    The interpreter gives itself to any thread that wants it: among a hundred of them some waited
    ten times as long as the others, and all took longer.

    Args:
        places: how many threads may work at once.
    """

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def take(self) -> None:
        """Waits for a place."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # handed over with the place

    def give_back(self) -> None:
        """Hands the place to whoever has waited longest."""
        with self._lock:
            if not self._waiting:
                self._free += 1
                return
            following = self._waiting.popleft()
        following.release()

    @contextmanager
    def away(self) -> Generator[None]:
        """Without the place: for a wait that may be long and that the others need not share."""
        self.give_back()
        try:
            yield
        finally:
            self.take()


class WireInTurn(Wire):
    """A connection whose thread works in turn, but does not hold its place while the peer is
    waited for."""

    def __init__(self, connection: socket.socket, max_pdu_bytes: int, turns: Turns) -> None:
        super().__init__(connection, max_pdu_bytes)
        self._turns = turns
        self._in_turn = False

    @contextmanager
    def in_turn(self) -> Generator[None]:
        """Holds a place, except in `read` and `send`, while these wait."""
        self._turns.take()
        self._in_turn = True
        try:
            yield
        finally:
            self._in_turn = False
            self._turns.give_back()

    def send(self, data: bytes) -> None:
        """Sends all of the bytes."""
        if not self._in_turn:
            super().send(data)
            return
        self._turns.give_back()
        try:
            super().send(data)
        finally:
            self._turns.take()

    def _receive(self) -> int:
        if not self._in_turn:
            return super()._receive()
        self._turns.give_back()
        try:
            return super()._receive()
        finally:
            self._turns.take()

"""Messages between the main process and a receiver: plain values, some at a time.

Python's own `marshal` writes them: both ends are one program of one version, and it takes a tenth
of the time of JSON. Nothing that a stranger wrote is read with it.

Receiver to main: ``stored``, ``event`` (for log, counters and the audit trail), ``pong``, ``ask``
(whether an instance is known with other bytes). Main to receiver: ``answer``, ``ping`` (every
instance of which a sender heard before it has been told when its ``pong`` is read), ``stop``.
"""

from __future__ import annotations

import contextlib
import marshal
import socket
import struct
import threading
from collections import deque
from typing import Any

_LENGTH = struct.Struct("<I")


class Channel:
    """One end of a socket pair. `send` from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()
        self._received: deque[dict[str, Any]] = deque()

    def send(self, *messages: dict[str, Any]) -> None:
        """Sends messages; waits while the other end is behind.

        Raises:
            OSError: the other end is gone.
        """
        data = marshal.dumps(messages)
        with self._lock:
            self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end is gone."""
        while not self._received:
            try:
                head = self._reader.read(_LENGTH.size)
                if len(head) < _LENGTH.size:
                    return None
                (length,) = _LENGTH.unpack(head)
                data = self._reader.read(length)
            except OSError:
                return None
            if len(data) < length:
                return None
            self._received.extend(marshal.loads(data))  # noqa: S302 - our own process
        return self._received.popleft()

    def close(self) -> None:
        """Ends it; the other end's `receive` returns None."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.close()
        self._connection.close()

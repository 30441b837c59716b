"""Messages between the main process and a receiver: plain values, each after its length.

Python's own `marshal` writes them: both ends are one program of one version, and it takes a tenth
of the time of JSON. Nothing that a stranger wrote is read with it.

Receiver to main: ``stored`` (before the sender hears of success), ``event`` (for log, counters and
the audit trail), ``pong``. Main to receiver: ``ping`` (all that was sent before its ``pong`` has
been read when that is read), ``stop``.
"""

from __future__ import annotations

import contextlib
import marshal
import socket
import struct
import threading
from typing import Any

_LENGTH = struct.Struct("<I")


class Channel:
    """One end of a socket pair. `send` from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        """Sends a message; waits while the other end is behind.

        Raises:
            OSError: the other end is gone.
        """
        data = marshal.dumps(message)
        with self._lock:
            self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when the other end is gone."""
        try:
            head = self._reader.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return None
            (length,) = _LENGTH.unpack(head)
            data = self._reader.read(length)
        except OSError:
            return None
        return marshal.loads(data) if len(data) == length else None  # noqa: S302 - our own process

    def close(self) -> None:
        """Ends it; the other end's `receive` returns None."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.close()
        self._connection.close()

"""Messages between the main process and a receiver, some at a time.

Python's own `marshal` writes their plain values (`encoding`): both ends are one program, and it
takes a tenth of the time of JSON. Nothing that a stranger wrote is read with it.
"""

from __future__ import annotations

import contextlib
import marshal
import socket
import struct
import threading
from collections import deque
from typing import Any

from services.listener.door.encoding import decode, encode
from services.listener.door.messages import Message

_LENGTH = struct.Struct("<I")


class Channel:
    """One end of a socket pair. `send` from any thread, `receive` from one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = connection.makefile("rb")
        self._lock = threading.Lock()
        self._received: deque[Message] = deque()

    def send(self, *messages: Message) -> None:
        """Sends messages; waits while the other end is behind.

        Raises:
            OSError: the other end is gone.
        """
        plain: Any = [encode(message) for message in messages]
        data = marshal.dumps(plain)
        with self._lock:
            self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Message | None:
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
            plain = marshal.loads(data)  # noqa: S302 - our own process
            self._received.extend(map(decode, plain))
        return self._received.popleft()

    def close(self) -> None:
        """Closes this end; the other end's `receive` returns None."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.close()
        self._connection.close()

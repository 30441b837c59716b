"""A peer that is there and says nothing more."""

from __future__ import annotations

import socket
import threading


class StuckPort:
    """A port that accepts every connection, sends some bytes and never a further one.

    A context manager that gives the port's number.

    Args:
        first_bytes: what each connection is sent; nothing by default.
    """

    def __init__(self, first_bytes: bytes = b"") -> None:
        self._first_bytes = first_bytes
        self._held: list[socket.socket] = []

    def __enter__(self) -> int:
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return int(self._socket.getsockname()[1])

    def _accept(self) -> None:
        try:
            while True:
                connection = self._socket.accept()[0]
                self._held.append(connection)
                connection.sendall(self._first_bytes)
        except OSError:
            return

    def __exit__(self, *_: object) -> None:
        for held in self._held:
            held.close()
        self._socket.close()

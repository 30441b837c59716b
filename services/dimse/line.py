"""A connection that is called, and that can be cut from another thread."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.dimse.errors import NotReached

if TYPE_CHECKING:
    import ssl

# A deadline that has passed is not "for ever", which 0 would be.
_AT_ONCE_S = 0.001


@dataclass(frozen=True, slots=True)
class Call:
    """Whom to ask for an association, and how long to wait.

    Attributes:
        tls: None for a plain connection.
        connect_timeout_s: for the connection, the handshake and the answer to the request
            together; for the release too.
        answer_timeout_s: for each operation's answer, and for each 64 KiB to be accepted.
    """

    host: str
    port: int
    called: str
    calling: str
    tls: ssl.SSLContext | None = None
    connect_timeout_s: float = 10.0
    answer_timeout_s: float = 60.0


class Line:
    """The connection to the called system. `cut` is for any thread, all else for a single one."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._socket: socket.socket | None = None
        self._cut = False

    def connect(self, call: Call, deadline: float) -> socket.socket:
        """Connects to the first address of the host that answers, over TLS where the call asks.

        Each address has its share of the time: a silent address leaves some for the next.

        Args:
            call: names the host, and the TLS files.
            deadline: monotonic time.

        Returns:
            The connection.

        Raises:
            NotReached: no address answers in time.
        """
        try:
            found = socket.getaddrinfo(call.host, call.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise _not_reached(error) from error
        problem = OSError("no address")
        for number, (family, kind, protocol, _, address) in enumerate(found):
            try:
                connection = socket.socket(family, kind, protocol)
                self._hold(connection)
                connection.settimeout(_left_s(deadline) / (len(found) - number))
                connection.connect(address)
            except OSError as error:
                self.close()
                problem = error
            else:
                return connection if call.tls is None else self._secured(connection, call, deadline)
        raise _not_reached(problem) from problem

    def cut(self) -> None:
        """Ends the connection at once; what waits for it, now or later, ends with an error."""
        with self._guard:
            self._cut = True
            if self._socket is not None:
                _shut_down(self._socket)

    def close(self) -> None:
        """Closes the connection."""
        with self._guard:
            held, self._socket = self._socket, None
        if held is not None:
            held.close()

    def _secured(self, connection: socket.socket, call: Call, deadline: float) -> socket.socket:
        assert call.tls is not None
        # A plain call starts without.
        from services.dimse.tls import TlsError, shake_hands, wrap_client

        try:
            secured = wrap_client(call.tls, connection, call.host)
            # What is cut is the descriptor's owner of the moment, during the handshake too.
            self._hold(secured)
            shake_hands(secured, _left_s(deadline))
        except TlsError as error:
            raise NotReached(f"cannot be reached over TLS: {error}", retryable=True) from error
        return secured

    def _hold(self, connection: socket.socket) -> None:
        with self._guard:
            self._socket = connection
            if self._cut:
                _shut_down(connection)


def _left_s(deadline: float) -> float:
    return max(_AT_ONCE_S, deadline - time.monotonic())


def _shut_down(connection: socket.socket) -> None:
    # The plain one also of a TLS connection, whose own would touch what another thread reads from.
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _not_reached(error: OSError | UnicodeError) -> NotReached:
    if isinstance(error, TimeoutError):
        why = "it does not answer in time"
    elif isinstance(error, socket.gaierror | UnicodeError):
        why = "its name is not known"
    else:
        why = error.strerror or "the network does not say why"
    return NotReached(f"cannot be reached: {why}", retryable=True)

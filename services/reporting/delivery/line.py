"""The connection below an association, which can be cut when its time is up.

pynetdicom sends and receives without a deadline, and its abort waits for what it is sending: a
destination that stops reading, or stops in the middle of a PDU, would hold its sender for ever.
Shutting the socket down ends both, from whatever thread.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast


class Line:
    """One association's connection."""

    def __init__(self) -> None:
        self._association: Any = None

    def opened(self, event: Any) -> None:
        """For EVT_CONN_OPEN: the connection is there, the association not yet."""
        self._association = event.assoc

    def cut(self) -> None:
        """Ends the connection at once; what waits for it ends as if the peer had closed it."""
        if self._association is None:
            return
        held = cast("socket.socket | None", self._association.dul.socket.socket)
        if held is None:
            return
        try:
            held.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it ended by itself meanwhile

    @contextmanager
    def within(self, seconds: float) -> Generator[None]:
        """Cuts the line when what is done inside takes longer."""
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

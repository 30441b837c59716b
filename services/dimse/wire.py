"""PDUs from a connection: one buffer, filled by the kernel, read in place.

A PDU's body is handed out as a view into the buffer, valid until the next one is read. Bytes are
moved only when what is left of the buffer cannot hold the rest of a PDU.
"""

from __future__ import annotations

import mmap
import select
import socket
import struct
import time
from collections.abc import Sequence

from services.dimse.pdu import PDU_HEAD, MalformedPduError

# What one call may bring: several PDUs of the size that common senders use at most.
_READ_AHEAD = 128 << 10
# What a peer must take of what is sent to it while it is waited for.
_LEAST_PROGRESS = 64 << 10
# An A-ASSOCIATE-RQ with 128 contexts of 20 transfer syntaxes each has 180 KB.
_REQUEST_LIMIT = 512 << 10


Buffer = bytes | memoryview


class ConnectionLostError(Exception):
    """The peer closed the connection, or the connection broke."""


class SilentPeerError(Exception):
    """The peer sent nothing for too long."""


class Wire:
    """A connection on which PDUs are read and sent. Not for several threads."""

    def __init__(self, connection: socket.socket, max_pdu_bytes: int) -> None:
        self._connection = connection
        self._limit = max(max_pdu_bytes, _REQUEST_LIMIT)
        # Of the system, not of the heap: what is not used takes no memory.
        self._buffer = mmap.mmap(-1, _READ_AHEAD + self._limit + PDU_HEAD.size)
        self._view = memoryview(self._buffer)
        self._start = 0
        self._end = 0
        # TLS's own kind of socket; what sends plainly starts without importing it.
        self._secure = type(connection) is not socket.socket
        self._patience_s = 0.0
        # The answers are small and awaited; ours must not wait for more to send.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def set_patience(self, seconds: float) -> None:
        """How long a read or a write may wait for the peer."""
        self._patience_s = seconds
        if self._secure:
            self._connection.settimeout(seconds)
            return
        # The kernel's own timer: Python's would cost a poll before every read.
        whole, part = divmod(seconds, 1.0)
        timer = struct.pack("@ll", int(whole), max(1, int(part * 1e6)))  # none would be for ever
        self._connection.settimeout(None)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timer)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timer)

    def read(self, deadline: float | None = None) -> tuple[int, memoryview]:
        """The next PDU: its type and its body.

        Args:
            deadline: monotonic time until which the PDU must be whole; None: the patience decides.

        Raises:
            ConnectionLostError, SilentPeerError: no PDU will come.
            MalformedPduError: the PDU is longer than any that is accepted.
        """
        if self._end - self._start < PDU_HEAD.size:
            self._fill(PDU_HEAD.size, deadline)
        kind, length = PDU_HEAD.unpack_from(self._buffer, self._start)
        if length > self._limit:
            raise MalformedPduError(f"A PDU of {length} bytes.")
        whole = PDU_HEAD.size + length
        if self._end - self._start < whole:
            self._fill(whole, deadline)
        body = self._start + PDU_HEAD.size
        self._start = body + length
        return kind, self._view[body : self._start]

    def send(self, data: bytes) -> None:
        """Sends all of the bytes.

        Raises:
            ConnectionLostError: the peer does not accept them.
        """
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise ConnectionLostError from error

    def send_parts(self, parts: Sequence[Buffer]) -> None:
        """Sends buffers one after the other, in one call where the connection can.

        Within the patience, the peer must accept at least `_LEAST_PROGRESS` of what is left.

        Raises:
            ConnectionLostError: the peer is gone.
            SilentPeerError: the peer accepts nothing, or next to nothing.
        """
        try:
            if self._secure:
                self._send_secured(b"".join(parts))
            else:
                self._send_gathered(parts)
        except (TimeoutError, BlockingIOError) as error:
            raise SilentPeerError from error
        except OSError as error:
            raise ConnectionLostError from error

    def _send_gathered(self, parts: Sequence[Buffer]) -> None:
        left = sum(map(len, parts))
        since, deadline = 0, time.monotonic() + self._patience_s
        while True:
            try:
                sent = self._connection.sendmsg(parts, (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            left -= sent
            if left == 0:
                return
            since += sent
            if since >= _LEAST_PROGRESS:
                since, deadline = 0, time.monotonic() + self._patience_s
            parts = _behind(parts, sent)
            self._await_room(deadline)

    def _await_room(self, deadline: float) -> None:
        poll = select.poll()  # select.select knows no descriptor above 1023
        poll.register(self._connection, select.POLLOUT)
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not poll.poll(left_s * 1000):
            raise SilentPeerError

    def _send_secured(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _LEAST_PROGRESS):
            self._connection.sendall(view[at : at + _LEAST_PROGRESS])

    def drain(self, deadline: float) -> None:
        """Waits until the peer closes the connection, at most until `deadline`."""
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._connection.settimeout(left)
                if not self._connection.recv(65536):
                    return
            except OSError:
                return

    def _fill(self, wanted: int, deadline: float | None) -> None:
        # Until `wanted` bytes stand from _start on; fewer do.
        missing = wanted - (self._end - self._start)
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + wanted > len(self._buffer):
            left = self._end - self._start
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._start, self._end = 0, left
        while missing > 0:
            if deadline is not None:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise SilentPeerError
                self.set_patience(left_s)
            got = self._receive()
            self._end += got
            missing -= got

    def _receive(self) -> int:
        try:
            got = self._connection.recv_into(self._view[self._end : self._end + _READ_AHEAD])
            if got < _READ_AHEAD:
                # Many senders (dcmtk, Orthanc) write command and data set separately with Nagle's
                # algorithm on, and wait 40 ms for a delayed acknowledgement in between. Linux
                # forgets the option, so that it is set whenever all that has come was read.
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except (TimeoutError, BlockingIOError) as error:
            raise SilentPeerError from error
        except OSError as error:
            raise ConnectionLostError from error
        if got == 0:
            raise ConnectionLostError
        return got


def _behind(parts: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of the parts after so many bytes."""
    for number, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[number + 1 :]]
        sent -= len(part)
    return []

"""How a connection is read: acknowledged at once, in one buffer, however the bytes come."""

from __future__ import annotations

import itertools
import socket
import ssl
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services.dimse.pdu import P_DATA_TF, MalformedPduError, pdu
from services.dimse.tls import make_context
from services.dimse.wire import ConnectionLostError, SilentPeerError, Wire
from tests.builders.certificates import Authority, shaken

_MAX_PDU = 131072


class _Watched:
    """A TCP connection that writes down what is done with it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.done: list[str] = []

    def recv_into(self, buffer: memoryview) -> int:
        got = self._connection.recv_into(buffer)
        self.done.append("read" if got else "end")
        return got

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self._connection.setsockopt(level, option, value)
        if (level, option) == (socket.IPPROTO_TCP, socket.TCP_QUICKACK):
            self.done.append(f"quick {value}")
        elif (level, option) == (socket.IPPROTO_TCP, socket.TCP_NODELAY):
            self.done.append(f"no delay {value}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.fixture
def ends() -> Generator[tuple[_Watched, socket.socket]]:
    """Both ends of a TCP connection: ours, and the sender's."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        theirs = socket.create_connection(door.getsockname(), timeout=20)
        ours, _ = door.accept()
    with ours, theirs:
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield _Watched(ours), theirs


def wire_on(ours: _Watched, max_pdu_bytes: int = _MAX_PDU) -> Wire:
    wire = Wire(ours, max_pdu_bytes)  # pyright: ignore[reportArgumentType] - stands for a socket
    wire.set_patience(20)
    return wire


def test_every_read_is_acknowledged_at_once_and_answers_are_not_held_back(
    ends: tuple[_Watched, socket.socket],
) -> None:
    # A sender with Nagle's algorithm on sends the second of two small writes only when the first
    # one is acknowledged; Linux delays that by 40 ms, and forgets TCP_QUICKACK as it pleases.
    ours, theirs = ends
    wire = wire_on(ours)
    assert ours.done == ["no delay 1"]
    for number in range(20):  # one read each: the next is sent when the last was seen
        theirs.sendall(pdu(P_DATA_TF, bytes([number])))
        assert wire.read() == (P_DATA_TF, bytes([number]))
    assert ours.done[1:] == ["read", "quick 1"] * 20


class _WatchedTls(ssl.SSLSocket):
    """The same over TLS, where the library wants a socket of its own kind."""

    done: list[str]

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        got = super().recv_into(buffer, nbytes, flags)
        self.done.append("read")
        return got

    def setsockopt(self, *how: Any) -> None:
        super().setsockopt(*how)
        if how[:2] == (socket.IPPROTO_TCP, socket.TCP_QUICKACK):
            self.done.append(f"quick {how[2]}")


def test_over_tls_every_read_is_acknowledged_at_once_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = make_context(authority.door())
    context.sslsocket_class = _WatchedTls
    own = authority.sign("CT 1")
    client = ssl.create_default_context(cafile=authority.certificate)
    client.check_hostname = False
    client.load_cert_chain(own.certificate, own.key)
    with socket.create_server(("127.0.0.1", 0)) as door:
        plain = socket.create_connection(door.getsockname(), timeout=20)
        accepted, _ = door.accept()
    with ThreadPoolExecutor(1) as thread:
        connecting = thread.submit(client.wrap_socket, plain)
        ours = shaken(context, accepted, 20)
        theirs = connecting.result(20)
    with ours, theirs:
        assert isinstance(ours, _WatchedTls)
        ours.done = []
        wire = Wire(ours, _MAX_PDU)
        wire.set_patience(20)
        for number in range(20):
            theirs.sendall(pdu(P_DATA_TF, bytes([number])))
            assert wire.read() == (P_DATA_TF, bytes([number]))
        assert ours.done == ["read", "quick 1"] * 20


def test_parts_of_a_pdu_are_acknowledged_at_once(ends: tuple[_Watched, socket.socket]) -> None:
    ours, theirs = ends
    wire = wire_on(ours)
    whole = pdu(P_DATA_TF, b"in parts")
    theirs.sendall(whole[:3])
    answered = threading.Thread(target=lambda: _send_when(ours, "quick 1", theirs, whole[3:]))
    answered.start()
    assert wire.read() == (P_DATA_TF, b"in parts")
    answered.join(20)
    assert ours.done[1:] == ["read", "quick 1"] * 2


def test_pdus_of_any_length_come_whole_through_one_buffer(
    ends: tuple[_Watched, socket.socket],
) -> None:
    ours, theirs = ends
    wire = wire_on(ours)
    lengths = [0, 1, 6, 4095, 131072, 131071, 7, 300000, 524288, 2, 131072] * 4
    bodies = [bytes([number % 251]) * length for number, length in enumerate(lengths)]
    sent = b"".join(pdu(P_DATA_TF, body) for body in bodies)

    def send() -> None:
        sizes = itertools.cycle((1, 5, 70001, 524288, 131078))
        at = 0
        while at < len(sent):
            size = next(sizes)
            theirs.sendall(sent[at : at + size])
            at += size

    sender = threading.Thread(target=send)
    sender.start()
    for body in bodies:
        assert wire.read() == (P_DATA_TF, body)
    sender.join(20)


def test_a_pdu_that_no_buffer_holds_is_refused_by_its_head(
    ends: tuple[_Watched, socket.socket],
) -> None:
    ours, theirs = ends
    theirs.sendall(b"\x04\0" + (524289).to_bytes(4, "big"))
    with pytest.raises(MalformedPduError, match="524289"):
        wire_on(ours).read()


@pytest.mark.parametrize("sent", [b"", b"\x04\0\0", b"\x04\0\0\0\0\x09half"])
def test_an_end_in_the_middle_is_a_lost_connection(
    sent: bytes, ends: tuple[_Watched, socket.socket]
) -> None:
    ours, theirs = ends
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(ConnectionLostError):
        wire_on(ours).read()


@pytest.mark.parametrize("sent", [b"", b"\x04\0\0", b"\x04\0\0\0\0\x09half"])
@pytest.mark.parametrize("deadline", [True, False], ids=["deadline", "patience"])
def test_silence_ends_a_read(
    deadline: bool, sent: bytes, ends: tuple[_Watched, socket.socket]
) -> None:
    ours, theirs = ends
    theirs.sendall(sent)
    wire = wire_on(ours)
    wire.set_patience(0.05)
    with pytest.raises(SilentPeerError):
        wire.read(time.monotonic() + 0.05 if deadline else None)


def _send_when(ours: _Watched, done: str, theirs: socket.socket, data: bytes) -> None:
    deadline = time.monotonic() + 20
    while done not in ours.done:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    theirs.sendall(data)

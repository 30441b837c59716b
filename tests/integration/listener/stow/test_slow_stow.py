"""Slow senders at the STOW-RS door and at the TLS handshake are given up; others wait for none."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from services.listener.stow import app, server
from tests.builders.certificates import Authority
from tests.builders.raw_sender import RawSender
from tests.builders.series import sound_series
from tests.builders.stow import CONTENT_TYPE, OpenDoor, body, open_door, post
from tests.integration.listener.conftest import OpenListener

_WITHIN_S = 20.0


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """A body with an instance of 64 KiB and more."""
    file = sound_series(tmp_path / "dicom")[0]
    return body([file.read_bytes() + bytes(4 << 20)])


def begun(door: OpenDoor, path: str, length: int) -> socket.socket:
    """A connection on which a request has begun; nothing of its body."""
    host, port = door.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=_WITHIN_S)
    head = f"POST {path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: {CONTENT_TYPE}\r\n"
    connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    return connection


def drip(connection: socket.socket, content: bytes) -> http.client.HTTPResponse:
    """Sends a byte whenever nothing was heard for a moment; the answer."""
    connection.settimeout(0.02)
    for at in range(len(content) - 1):
        try:
            connection.sendall(content[at : at + 1])
            connection.recv(1, socket.MSG_PEEK)
            break
        except TimeoutError:
            continue
    connection.settimeout(_WITHIN_S)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer


def test_a_body_that_drips_is_given_up_and_leaves_nothing(content: bytes, tmp_path: Path) -> None:
    with open_door(tmp_path, idle_timeout_s=0.5) as door:
        with begun(door, "/studies", len(content)) as connection:
            answer = drip(connection, content)
            assert (answer.status, answer.getheader("connection")) == (408, "close")
        assert door.files() == []
        assert door.told == []


def test_the_body_of_a_refused_request_may_not_drip_for_ever(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.stow.app._READ_OF_REFUSED_S", 0.5)
    with (
        open_door(tmp_path) as door,
        begun(door, "/nowhere", len(content)) as connection,
    ):
        answer = drip(connection, content)
        assert (answer.status, answer.getheader("connection")) == (404, "close")


def test_one_that_drips_occupies_one_place_and_delays_nobody(
    content: bytes, tmp_path: Path
) -> None:
    headers = {"Content-Type": CONTENT_TYPE}
    with (
        open_door(tmp_path, idle_timeout_s=600, max_requests=2) as door,
        begun(door, "/studies", len(content)) as connection,
    ):
        for at in range(5):
            connection.sendall(content[at : at + 1])
            answer = httpx.post(f"{door.url}/studies", content=content, headers=headers, timeout=60)
            assert answer.status_code == 200
        connection.sendall(content[5:])
        whole = http.client.HTTPResponse(connection)
        whole.begin()
        assert whole.status == 200


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00"], ids=["nothing", "half a hello"])
def test_a_tls_handshake_that_does_not_come_on_is_given_up(
    sent: bytes, open_front_door: OpenListener, tmp_path: Path
) -> None:
    files = Authority(tmp_path / "authority").door()
    tls = {
        "port": 0,
        "certificate": files.certificate,
        "key": files.key,
        "trusted_certificates": files.trusted_certificates,
        "handshake_timeout_s": 0.3,
    }
    with open_front_door(tls=tls, request_timeout_s=600) as listener:
        assert listener.secure_port is not None
        with RawSender(listener.secure_port) as sender:
            sender.send(sent)
            assert sender.is_closed()


# Far above what a system buffers for a connection.
_LONG_ANSWER_BYTES = 24 << 20


@pytest.fixture
def long_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers as of a hundred thousand instances; whoever reads none of them is soon given up."""
    monkeypatch.setattr(server, "_REQUEST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(app, "render", lambda *_: b" " * _LONG_ANSWER_BYTES)


@contextmanager
def asked(door: OpenDoor, content: bytes, head: str = "") -> Generator[socket.socket]:
    """A connection whose request was sent, with a small buffer for the answer."""
    host, port = door.url.removeprefix("http://").split(":")
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        connection.settimeout(_WITHIN_S)
        connection.connect((host, int(port)))
        line = f"POST /studies HTTP/1.1\r\nHost: [::1]\r\n{head}Content-Type: {CONTENT_TYPE}\r\n"
        connection.sendall(f"{line}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        yield connection


@pytest.mark.usefixtures("long_answers")
@pytest.mark.parametrize("head", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_a_long_answer_to_a_slow_reader_comes_whole(
    head: str, content: bytes, tmp_path: Path
) -> None:
    with open_door(tmp_path) as door, asked(door, content, head) as connection:
        read, begun = 0, time.monotonic()
        while read < _LONG_ANSWER_BYTES:
            some = connection.recv(256 << 10)
            assert some, f"cut off after {read} bytes"
            read += len(some)
            # The pace of a slow line: several times the patience for the whole.
            behind_s = read / _LONG_ANSWER_BYTES * 3.0 - (time.monotonic() - begun)
            time.sleep(max(0.0, behind_s))


@pytest.mark.usefixtures("long_answers")
@pytest.mark.parametrize("head", ["", "Connection: close\r\n"], ids=["kept", "closed"])
def test_an_answer_that_nobody_reads_is_given_up(head: str, content: bytes, tmp_path: Path) -> None:
    with open_door(tmp_path, max_requests=1) as door, asked(door, content, head) as connection:
        deadline = time.monotonic() + _WITHIN_S
        for status in (503, 200):  # it has the one place, and then not any more
            while post(door, content).status_code != status:
                assert time.monotonic() < deadline, status
        # What the system had taken is there, the rest is not.
        read = 0
        with contextlib.suppress(ConnectionResetError):
            while some := connection.recv(1 << 20):
                read += len(some)
        assert read < _LONG_ANSWER_BYTES

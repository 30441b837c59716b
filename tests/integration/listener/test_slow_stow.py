"""Slow senders at the STOW-RS door and at the TLS handshake are given up; others wait for none."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path

import httpx
import pytest

from tests.builders.certificates import Authority
from tests.builders.raw_sender import RawSender
from tests.builders.series import sound_series
from tests.builders.stow import CONTENT_TYPE, OpenDoor, body, open_door
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
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\n"
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


def test_one_that_drips_takes_one_place_and_delays_nobody(content: bytes, tmp_path: Path) -> None:
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

"""The STOW-RS door: who may store, its limits, and bodies that break off."""

from __future__ import annotations

import datetime as dt
import http.client
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.common.settings import AccessToken
from services.common.settings.access import new_token
from services.listener.stow import server
from tests.builders.stow import (
    CONTENT_TYPE,
    OpenDoor,
    answered,
    body,
    data_set_of,
    open_door,
    part,
    post,
    reasons,
    uid_of,
)


def test_strangers_are_turned_away_and_learn_nothing(
    sound_files: list[Path], tmp_path: Path
) -> None:
    peer: dict[str, Any] = {"name": "VNA", "verbs": ["stow"], "addresses": ["192.0.2.0/24"]}
    content = body([sound_files[0].read_bytes()])
    with open_door(tmp_path, listener={"accept_unknown_peers": False, "peers": [peer]}) as door:
        refused = post(door, content)
        # Nobody may say that he comes from elsewhere.
        forwarded = post(door, content, **{"X-Forwarded-For": "192.0.2.7"})
        assert door.told == []
    assert (refused.status_code, forwarded.status_code) == (403, 403)
    assert b"VNA" not in refused.content
    peer["addresses"] = ["127.0.0.0/8"]
    peer["priority"] = "high"
    with open_door(tmp_path, listener={"accept_unknown_peers": False, "peers": [peer]}) as door:
        assert post(door, content).status_code == 200
        assert (door.told[0].peer, door.told[0].priority) == ("VNA", "high")


def test_tokens(sound_files: list[Path], tmp_path: Path) -> None:
    content = body([sound_files[0].read_bytes()])
    with open_door(tmp_path, tokens=["the first token 0001", "the second token 02"]) as door:
        assert post(door, content).status_code == 401
        assert post(door, content, Authorization="Bearer wrong").status_code == 401
        assert post(door, content, Authorization="Basic the first token 0001").status_code == 401
        assert post(door, content, Authorization="Bearer the second token 02").status_code == 200


def test_tokens_by_their_hashes(sound_files: list[Path], tmp_path: Path) -> None:
    content = body([sound_files[0].read_bytes()])
    now = dt.datetime.now(dt.UTC)
    good, of_good = new_token()
    reader, of_reader = new_token()
    late, of_late = new_token()
    day = dt.timedelta(days=1)
    access_tokens = (
        AccessToken(name="vna", sha256=of_good, actions=("store",), expires=now + day),
        AccessToken(name="worklist", sha256=of_reader, actions=("read", "act"), expires=now + day),
        AccessToken(name="old", sha256=of_late, actions=("store",), expires=now - day),
    )
    with open_door(tmp_path, access_tokens=access_tokens) as door:
        assert post(door, content).status_code == 401
        for refused in (reader, late, of_good, good[:-1]):
            assert post(door, content, Authorization=f"Bearer {refused}").status_code == 401
        assert post(door, content, Authorization=f"Bearer {good}").status_code == 200


def test_too_large_a_request_and_too_large_an_instance(
    sound_files: list[Path], tmp_path: Path
) -> None:
    good = sound_files[0].read_bytes()
    large = sound_files[1].read_bytes() + bytes(2 << 20)
    with open_door(tmp_path, max_instance_bytes=1 << 20) as door:
        response = post(door, body([large, good]))
        assert (response.status_code, reasons(response)) == (202, [0xA700])
        assert list(door.stored()) == [uid_of(sound_files[0])]
    with open_door(tmp_path / "b", max_request_bytes=1 << 20) as door:
        assert post(door, body([large])).status_code == 413

        def chunked() -> Any:
            yield part(good)
            yield from [part(large)] * 4

        response = post(door, chunked())
        assert response.status_code == 413
        assert len(answered(response).ReferencedSOPSequence) == 1


def test_a_disk_that_is_nearly_full_accepts_nothing(
    sound_files: list[Path], tmp_path: Path
) -> None:
    with open_door(tmp_path, watermark_bytes=1 << 62) as door:
        response = post(door, body([sound_files[0].read_bytes()]))
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert door.told == []


def test_one_request_too_many_is_asked_to_come_again(
    sound_files: list[Path], tmp_path: Path
) -> None:
    content = body([sound_files[0].read_bytes()])
    with open_door(tmp_path, max_requests=1) as door:
        slow = half_sent(door, content)
        deadline = time.monotonic() + 10
        while (response := post(door, content)).status_code != 503:
            assert time.monotonic() < deadline
        assert "retry-after" in response.headers
        slow.close()
        while (response := post(door, content)).status_code != 200:
            assert time.monotonic() < deadline


def test_a_peer_with_a_limit_of_its_own_leaves_places_to_others(
    sound_files: list[Path], tmp_path: Path
) -> None:
    content = body([sound_files[0].read_bytes()])
    limited = {"name": "ONE", "addresses": ["127.0.0.1"], "max_associations": 1}
    peers = [
        {**peer, "verbs": ["stow"]}
        for peer in (limited, {"name": "ALL", "addresses": ["127.0.0.2"]})
    ]
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    headers = {"Content-Type": CONTENT_TYPE}
    with (
        open_door(tmp_path, listener={"accept_unknown_peers": False, "peers": peers}) as door,
        httpx.Client(transport=elsewhere, headers=headers) as other,
        half_sent(door, content) as slow,
    ):
        deadline = time.monotonic() + 10
        while (response := post(door, content)).status_code != 503:
            assert time.monotonic() < deadline
        assert "retry-after" in response.headers
        assert other.post(f"{door.url}/studies", content=content).status_code == 200
        slow.close()
        while post(door, content).status_code != 200:
            assert time.monotonic() < deadline


def half_sent(door: OpenDoor, content: bytes, length: int = 1000) -> socket.socket:
    """A connection on which the first bytes of a request have been sent."""
    host, port = door.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    head = (
        f"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content[:length])
    return connection


def test_a_connection_that_breaks_within_a_part_leaves_what_was_whole(
    sound_files: list[Path], tmp_path: Path
) -> None:
    first, second = sound_files[0].read_bytes(), sound_files[1].read_bytes() + bytes(4 << 20)
    content = body([first, second])
    with open_door(tmp_path) as door:
        connection = half_sent(door, content, len(content) - 1000)
        deadline = time.monotonic() + 10
        while not door.told:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        connection.close()
        while len(door.files()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert list(door.stored()) == [uid_of(sound_files[0])]
        assert door.stored()[uid_of(sound_files[0])] == data_set_of(first)
        assert post(door, body([first])).status_code == 200
        assert [message.orderly for message in door.ended] == [False, True]


def test_a_body_that_stands_still_is_given_up(sound_files: list[Path], tmp_path: Path) -> None:
    content = body([sound_files[0].read_bytes()])
    with open_door(tmp_path, idle_timeout_s=0.2) as door:
        with half_sent(door, content) as connection:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 408
            assert answer.getheader("connection") == "close"
        assert door.files() == []


def test_a_request_that_never_begins_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.stow.server._REQUEST_TIMEOUT_S", 0.2)
    with open_door(tmp_path) as door:
        host, port = door.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"POST /studies HTTP/1.1\r\nHost")
            assert connection.recv(1) == b""


def test_an_instance_that_is_too_large_is_not_asked_for_again(
    sound_files: list[Path], tmp_path: Path
) -> None:
    large = sound_files[0].read_bytes() + bytes(2 << 20)
    with open_door(tmp_path, max_instance_bytes=1 << 20) as door:
        response = post(door, body([large]))
        assert (response.status_code, reasons(response)) == (409, [0xA700])
        assert "retry-after" not in response.headers
        assert door.files() == []


def stranger(door: OpenDoor, content: bytes = b"") -> socket.socket:
    """A connection from an address that no peer has, on which so much was sent."""
    host, port = door.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 10, source_address=("127.0.0.2", 0))
    connection.sendall(content)
    return connection


@pytest.mark.parametrize("sent", [b"", b"POST /studies", b"a request"], ids=range(3))
def test_strangers_with_many_connections_keep_no_peer_out(
    sent: bytes, sound_files: list[Path], tmp_path: Path
) -> None:
    peer = {"name": "VNA", "verbs": ["stow"], "addresses": ["127.0.0.1"]}
    content = body([sound_files[0].read_bytes()])
    if sent == b"a request":  # refused, and its body does not come
        head = f"POST /studies HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
        sent = f"{head}Content-Length: {len(content)}\r\n\r\n".encode()
    with (
        open_door(tmp_path, listener={"accept_unknown_peers": False, "peers": [peer]}) as door,
        half_sent(door, content) as slow,
        ExitStack() as opened,
    ):
        deadline = time.monotonic() + 10
        while post(door, content).status_code != 200:  # `slow` has its place by now
            assert time.monotonic() < deadline
        strangers = [
            opened.enter_context(stranger(door, sent)) for _ in range(2 * server.MOST_PENDING)
        ]
        assert post(door, content).status_code == 200
        assert is_closed(strangers[0])
        slow.sendall(content[1000:])
        answer = http.client.HTTPResponse(slow)
        answer.begin()
        assert answer.status == 200


def is_closed(connection: socket.socket) -> bool:
    """Whether the door closes it, sending nothing more before."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True

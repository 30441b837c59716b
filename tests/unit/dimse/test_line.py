"""Connecting: addresses of a host that nobody answers at, and cutting while TLS begins."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.dimse.errors import NotReached
from services.dimse.line import Call, Line
from services.dimse.tls import ClientTlsFiles, make_client_context
from tests.builders.certificates import Authority

DEAF, HEARS = "127.0.0.2", "127.0.0.1"


@contextmanager
def deaf(port: int) -> Generator[None]:
    """An address at which connections are neither taken nor turned away: its queue is full."""
    with ExitStack() as held:
        server = held.enter_context(socket.create_server((DEAF, port), backlog=0))
        for _ in range(4):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield


def test_an_address_that_does_not_answer_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def both(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, (address, port)) for address in (DEAF, HEARS)]

    with socket.create_server((HEARS, 0)) as server:
        port = int(server.getsockname()[1])
        with deaf(port):
            monkeypatch.setattr(socket, "getaddrinfo", both)
            line = Line()
            call = Call("pacs.example", port, "PACS", "AXIAL")
            deadline = time.monotonic() + 4.0
            connection = line.connect(call, deadline)
            assert connection.getpeername() == (HEARS, port)
            assert time.monotonic() < deadline, "time is left for the handshake and the request"
            line.close()


def test_cutting_it_ends_a_handshake_that_the_other_side_does_not_answer(tmp_path: Path) -> None:
    context = make_client_context(
        ClientTlsFiles(str(Authority(tmp_path / "authority").certificate))
    )
    line, ended = Line(), threading.Event()
    with socket.create_server((HEARS, 0)) as server:
        call = Call(HEARS, int(server.getsockname()[1]), "PACS", "AXIAL", context)

        def run() -> None:
            with pytest.raises(NotReached):
                line.connect(call, time.monotonic() + 60.0)
            ended.set()

        thread = threading.Thread(target=run)
        thread.start()
        silent, _ = server.accept()
        with silent:
            assert silent.recv(1), "its handshake has begun"
            line.cut()
            assert ended.wait(5)
        thread.join()
    line.close()

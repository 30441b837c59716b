"""An HTTP application served by uvicorn in a thread of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from services.common.errors import AxialError

_START_DEADLINE_S = 15.0


class HttpServer:
    """The running server."""

    def __init__(self, server: uvicorn.Server, thread: threading.Thread) -> None:
        self._server = server
        self._thread = thread

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    def alive(self) -> bool:
        """Whether requests are being served."""
        return self._thread.is_alive()


@contextmanager
def serving_http(
    config: uvicorn.Config, name: str, *, finish_within_s: float
) -> Generator[HttpServer]:
    """Serves an application over HTTP until the context is left.

    Args:
        name: the thread's.
        finish_within_s: how long requests under way may go on after the context is left.

    Raises:
        AxialError: the port is in use, or does not open.
    """
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name=name, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_DEADLINE_S
    while not server.started:
        thread.join(0.02)  # ends at once when the server cannot start
        if not thread.is_alive() or time.monotonic() > deadline:
            raise AxialError(f"Cannot listen on {config.host}:{config.port}: is it taken?")
    try:
        yield HttpServer(server, thread)
    finally:
        server.should_exit = True
        thread.join(finish_within_s)

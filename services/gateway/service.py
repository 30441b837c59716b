"""The gateway as a process: uvicorn in a thread, stopped with the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from services.common.errors import AxialError
from services.common.service import ServiceContext
from services.gateway.app import database_problems, make_app

START_DEADLINE_S = 15.0


class Gateway:
    """The running gateway."""

    def __init__(self, context: ServiceContext, server: threading.Thread) -> None:
        self._context = context
        self._server = server

    def dead(self) -> str | None:
        """A sentence when the server's thread has ended; None while it lives."""
        return None if self._server.is_alive() else "The HTTP server has ended."

    def problems(self) -> list[str]:
        """What keeps the gateway from answering."""
        return database_problems(self._context.engine)


@contextmanager
def open_gateway(context: ServiceContext) -> Generator[Gateway]:
    """Serves until the context is left.

    Raises:
        AxialError: the port is taken.
    """
    settings = context.settings.gateway
    config = uvicorn.Config(
        make_app(context.settings, context.engine),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(context.settings.grace_period_s / 2) or 1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="gateway", daemon=True)
    thread.start()
    deadline = time.monotonic() + START_DEADLINE_S
    while not server.started:
        thread.join(0.02)  # ends at once when the server cannot start
        if not thread.is_alive() or time.monotonic() > deadline:
            raise AxialError(f"Cannot listen on {settings.host}:{settings.port}: is it taken?")
    try:
        yield Gateway(context, thread)
    finally:
        server.should_exit = True
        thread.join(context.settings.grace_period_s)

"""The gateway as a process: uvicorn in a thread, stopped with the process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import uvicorn

from services.common.database import database_problems
from services.common.http_server import HttpServer, serving_http
from services.common.service import ServiceContext
from services.gateway.app import make_app


class Gateway:
    """The running gateway."""

    def __init__(self, context: ServiceContext, server: HttpServer) -> None:
        self._context = context
        self._server = server

    def dead(self) -> str | None:
        """A sentence when the server's thread has ended; None while the thread lives."""
        return None if self._server.alive() else "The HTTP server has ended."

    def problems(self) -> list[str]:
        """What keeps the gateway from answering."""
        return database_problems(self._context.engine)


@contextmanager
def open_gateway(context: ServiceContext) -> Generator[Gateway]:
    """Serves until the context is left.

    Raises:
        AxialError: the port is in use.
    """
    settings = context.settings.gateway
    config = uvicorn.Config(
        make_app(context.settings, context.engine, context.credentials),
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=int(context.settings.grace_period_s / 2) or 1,
    )
    grace_period_s = context.settings.grace_period_s
    with serving_http(config, "gateway", finish_within_s=grace_period_s) as server:
        yield Gateway(context, server)

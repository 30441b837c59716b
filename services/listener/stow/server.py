"""The HTTP server of the STOW-RS door: uvicorn in a thread of the listener's main process."""

from __future__ import annotations

import asyncio
import fcntl
import ssl
import termios
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from services.common.http_server import HttpServer, serving_http
from services.common.telemetry import get_logger
from services.dimse.tls import TlsContexts, TlsError, TlsFiles, peer_certificate
from services.listener.stow.app import ADMITTED, CERTIFICATE, StowApp, StowDoor

_log = get_logger("listener")

# uvicorn aborts what is not finished in time; its own end comes a moment later.
_LATE_S = 15.0
# A connection that has no request under way and does not make one within this time is closed: one
# that sends its header byte by byte, too. So is one that takes nothing of its answer.
_REQUEST_TIMEOUT_S = 10.0
# Connections without a request that is served: that have not asked yet, are being refused, or
# linger. Beyond these the oldest is closed, so that they cannot keep others out.
MOST_PENDING = 64


@contextmanager
def open_stow(
    door: StowDoor, tls: TlsFiles | None, *, finish_within_s: float
) -> Generator[HttpServer]:
    """Serves requests while the context is open; then those under way may finish.

    Args:
        tls: files of the TLS door where `door.settings.tls` is set.
        finish_within_s: how long requests under way may go on after the context is left.

    Raises:
        AxialError: the port is in use, or does not open.
        TlsError: the files cannot be used.
    """
    settings = door.settings
    assert settings.port is not None, "the door is opened only where it is asked for"
    app = StowApp(door)
    config = _configuration(app, door, tls, finish_within_s)
    try:
        with serving_http(config, "stow", finish_within_s=finish_within_s + _LATE_S) as server:
            yield server
    finally:
        app.close()


def _configuration(
    app: StowApp, door: StowDoor, tls: TlsFiles | None, finish_within_s: float
) -> uvicorn.Config:
    settings = door.settings
    how: dict[str, Any] = {}
    if settings.tls:
        assert tls is not None, "the settings demand TLS files with stow.tls"
        contexts = TlsContexts(tls, _report_files)
        how["ssl_context_factory"] = lambda _config, _default: renewing_context(contexts)
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port or 0,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # The address decides who is served: nobody may name another one in a header.
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, int(finish_within_s)),
        **how,
    )


def _report_files(problem: TlsError | None) -> None:
    if problem is None:
        _log.warning("tls_files_loaded")
    else:
        _log.warning("tls_files_refused", problem=str(problem))


def renewing_context(contexts: TlsContexts) -> ssl.SSLContext:
    """A TLS context for a server that keeps its context: every handshake uses the newest files."""
    first = contexts.current()

    def choose(secured: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: Any) -> None:
        secured.context = contexts.current()

    first.sni_callback = choose
    return first


class _Protocol(H11Protocol):
    """uvicorn's protocol, which knows the client's certificate and gives up who does not go on."""

    _timer: asyncio.TimerHandle | None = None
    _unread = 0  # bytes of the answer, when the timer began
    _pending_since = 0.0  # when it came, or its last request was answered

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn's own
        super().connection_made(transport)
        # Writing is paused whenever the system does not take an answer at once: the next piece of
        # it waits, and is not copied. (At 0, TLS would pause with nothing to wait for.)
        transport.set_write_buffer_limits(1)
        secured = transport.get_extra_info("ssl_object")
        if secured is not None:
            self.app = _with_certificate(self.app, peer_certificate(secured))
        self._await_request()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._serving() and not self.flow.write_paused:
            self._stop_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._serving():
            self._stop_timer()

    def timeout_keep_alive_handler(self) -> None:
        if not self._unread_bytes():  # else it is closed when it takes no more of its answer
            super().timeout_keep_alive_handler()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        self._pending_since = self.loop.time()
        self._watch()

    def _make_room(self) -> None:
        served = [each for each in self.connections if isinstance(each, _Protocol)]
        pending = [each for each in served if each._is_pending()]
        if len(pending) > MOST_PENDING:
            min(pending, key=lambda each: each._pending_since).transport.abort()

    def _is_pending(self) -> bool:
        """Whether it is open and has no request that is served."""
        if self.transport.is_closing():
            return False
        scope: Any = self.scope  # None before the first request
        return not (self._serving() and scope["state"].get(ADMITTED))

    def _watch(self) -> None:
        self._stop_timer()
        self._unread = self._unread_bytes()
        self._timer = self.loop.call_later(_REQUEST_TIMEOUT_S, self._give_up)

    def _give_up(self) -> None:
        if self._serving() and not self.flow.write_paused:
            return  # it asked at once when its last request was answered
        if self._unread_bytes() < self._unread:
            self._watch()
        else:
            self.transport.abort()

    def _unread_bytes(self) -> int:
        """How much of its answer the client has not taken: here, and in the system's hands."""
        sent = array("i", [0])
        try:
            connection = self.transport.get_extra_info("socket")
            fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, sent)
            return self.transport.get_write_buffer_size() + sent[0]
        except (OSError, ValueError, AttributeError):  # closed; TLS has forgotten its socket then
            return 0

    def _serving(self) -> bool:
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _with_certificate(app: Any, certificate: Any) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        extensions = {**scope.get("extensions", {}), CERTIFICATE: certificate}
        await app({**scope, "extensions": extensions}, receive, send)

    return application

"""The life of a service process: settings, telemetry, database, health, SIGTERM.

Every service's ``__main__`` is a call of `serve` with a component: a context manager that opens
what the service needs and says what keeps it from being ready.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol, runtime_checkable

import grpc
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import Engine

from services.common.database import migrate, open_database
from services.common.errors import AxialError
from services.common.rpc import open_channel
from services.common.settings import Settings, load_settings
from services.common.store import StudyStore, open_store
from services.common.telemetry import get_logger, setup_logs, setup_traces
from services.common.telemetry.audit import AuditEvent, audit, setup_audit
from services.common.trust import Credentials, credentials_of

# How often a service looks whether one of its threads has died.
_LOOK_AFTER_S = 5.0


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a service's component is opened with."""

    name: str
    settings: Settings
    engine: Engine
    store: StudyStore

    @property
    def credentials(self) -> Credentials:
        """The service's certificate and key.

        Raises:
            TrustError: they are missing.
        """
        return credentials_of(self.settings, self.name)

    def channel_to(self, component: str) -> grpc.Channel:
        """A channel to another service, for the caller to close.

        Args:
            component: listener, orchestrator or reporting.

        Raises:
            TrustError: this service's certificate or key is missing.
        """
        addresses = {
            "listener": self.settings.listener.intake_address,
            "orchestrator": self.settings.orchestrator.address,
            "reporting": self.settings.reporting.address,
        }
        return open_channel(addresses[component], self.credentials, component)


class Component(Protocol):
    """A running service."""

    def problems(self) -> list[str]:
        """What keeps the service from being ready, in sentences; empty when it is ready."""
        ...

    def dead(self) -> str | None:
        """A sentence when a part that must run has ended for good; None while all live."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A service that is ready and has something to say of its work."""

    def remarks(self) -> list[str]:
        """What people should know although work goes on, in sentences."""
        ...


OpenComponent = Callable[[ServiceContext], AbstractContextManager[Component]]


def serve(
    name: str,
    health_port: Callable[[Settings], int] | None,
    open_component: OpenComponent,
    arguments: list[str] | None = None,
) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit code.

    It stops within ``grace_period_s``: the component's exit finishes what was acknowledged; a
    process that takes longer is ended hard, and what it left is taken up at its next start.
    """
    options = _arguments(name, arguments)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    try:
        settings = load_settings(options.config).settings
    except AxialError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    setup_logs(name, settings.telemetry)
    setup_traces(name, settings)
    setup_audit(name, settings.audit_dir, settings.audit)
    log = get_logger("common")
    try:
        _run(name, settings, health_port, open_component, stop)
    except AxialError as error:
        log.error("service_failed", problem=str(error))
        return 1
    except Exception as error:
        log.error("service_failed", exc_info=error)
        return 1
    log.info("service_stopped")
    return 0


def _run(
    name: str,
    settings: Settings,
    health_port: Callable[[Settings], int] | None,
    open_component: OpenComponent,
    stop: threading.Event,
) -> None:
    log = get_logger("common")
    with ExitStack() as resources:
        engine = open_database(settings.resolved_database_url)
        resources.callback(engine.dispose)
        migrate(engine)
        context = ServiceContext(name, settings, engine, open_store(settings))
        component = resources.enter_context(open_component(context))
        if health_port is not None:
            port = health_port(settings)
            resources.enter_context(_Health(settings.health_host, port, component))
        # What is there now stays; the collector would look at all of it again and again.
        gc.collect()
        gc.freeze()
        log.info("service_started", pid=os.getpid())
        audit(AuditEvent.APPLICATION_STARTED)
        resources.callback(audit, AuditEvent.APPLICATION_STOPPED)
        while not stop.wait(_LOOK_AFTER_S):
            dead = component.dead()
            if dead is not None:
                # A process that lost a part is of no use; a new one takes its work up.
                raise AxialError(dead)
        log.info("service_stopping", grace_period_s=settings.grace_period_s)
        _end_hard_after(settings.grace_period_s)


def main(
    name: str, health_port: Callable[[Settings], int] | None, open_component: OpenComponent
) -> NoReturn:
    """`serve` as the whole of a process.

    The process ends with its component, not with the last thread of a library: everything that
    counts is on disk by then.
    """
    code = serve(name, health_port, open_component)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _arguments(name: str, arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{name}",
        description=f"Runs Axial's {name} until SIGTERM. Settings: axial.yaml and AXIAL_* "
        "variables; `axial config show` prints them all.",
        epilog=f"example: python -m services.{name} --config /etc/axial/axial.yaml",
    )
    parser.add_argument("--config", type=Path, help="settings file (default: axial.yaml)")
    return parser.parse_args(arguments)


def _end_hard_after(seconds: float) -> None:
    timer = threading.Timer(seconds, os._exit, args=(3,))
    timer.daemon = True
    timer.start()


class _Health:
    """/healthz, /readyz and /metrics over plain HTTP, for probes and Prometheus."""

    def __init__(self, host: str, port: int, component: Component) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/healthz":
                    dead = component.dead()
                    body = json.dumps({"status": dead or "alive"}).encode()
                    self._answer(503 if dead else 200, body, "application/json")
                elif self.path == "/readyz":
                    problems = component.problems()
                    remarks = component.remarks() if isinstance(component, Remarking) else []
                    answer = {"ready": not problems, "problems": problems, "remarks": remarks}
                    body = json.dumps(answer).encode()
                    self._answer(503 if problems else 200, body, "application/json")
                elif self.path == "/metrics":
                    self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
                else:
                    self._answer(404, b"", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Probes are not events."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise AxialError(f"Cannot listen on port {port}: {error.strerror}.") from error
        self._server.daemon_threads = True

    def __enter__(self) -> _Health:
        threading.Thread(target=self._server.serve_forever, args=(0.5,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

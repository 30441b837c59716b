"""gRPC between the services: servers, channels, errors and trace context.

Every call has a deadline, every `AxialError` becomes a status that says whether a retry can help
(UNAVAILABLE) or not (FAILED_PRECONDITION), and the caller's span continues in the callee.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.errors import AxialError
from services.common.telemetry import get_logger

_OPTIONS = (("grpc.so_reuseport", 0),)
# A peer that was restarted is found again quickly; the default backs off to two minutes.
RECONNECT_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
_TRACEPARENT = "traceparent"


class RpcError(AxialError):
    """A gRPC server could not be opened."""


@contextmanager
def serve_rpc(
    address: str,
    register: Callable[[grpc.Server], None],
    *,
    workers: int = 8,
    grace_s: float = 5.0,
) -> Generator[int]:
    """Serves until the context is left; yields the bound port.

    Args:
        address: host:port; port 0 takes a free one.
        register: adds the servicers.
        workers: calls served at once.
        grace_s: how long running calls may take to end.

    Raises:
        RpcError: the address is taken.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="rpc")
    server = grpc.server(pool, options=_OPTIONS)
    register(server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise RpcError(f"Cannot listen on {address}: is it taken?", retryable=True) from error
    if port == 0:
        raise RpcError(f"Cannot listen on {address}: is it taken?", retryable=True)
    server.start()
    try:
        yield port
    finally:
        server.stop(grace_s).wait(grace_s)
        pool.shutdown(wait=False, cancel_futures=True)


def open_channel(address: str) -> grpc.Channel:
    """A channel that reconnects within a second; close it or use it as a context manager."""
    return grpc.insecure_channel(address, options=RECONNECT_OPTIONS)


def current_metadata() -> tuple[tuple[str, str], ...]:
    """The current span's context, as metadata of an outgoing call."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())


def traceparent_of(context: grpc.ServicerContext) -> str:
    """The caller's trace context; empty when it sent none."""
    for key, value in context.invocation_metadata() or ():
        if key == _TRACEPARENT:
            return value if isinstance(value, str) else value.decode("ascii")
    return ""


@contextmanager
def rpc_errors(context: grpc.ServicerContext) -> Generator[None]:
    """Turns what is raised inside into a status.

    An `AxialError` is told with its message; of anything else only the kind, because texts of
    libraries may quote a data set.
    """
    try:
        yield
    except AxialError as error:
        retryable = error.retryable
        code = grpc.StatusCode.UNAVAILABLE if retryable else grpc.StatusCode.FAILED_PRECONDITION
        context.abort(code, str(error))
    except Exception as error:
        if type(error) is Exception:  # what `abort` itself raises to end the call
            raise
        get_logger("common").error("call_failed", exc_info=error)
        context.abort(grpc.StatusCode.INTERNAL, type(error).__name__)

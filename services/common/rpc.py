"""gRPC between the services: servers, channels, errors and trace context.

Every call is mutual TLS: a server knows which component calls it and refuses what is not on that
component's list. Every call has a deadline, every `AxialError` becomes a status that says whether
a retry can help (UNAVAILABLE) or not (FAILED_PRECONDITION), and the caller's span continues in the
callee.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services.common.callers import may_call
from services.common.errors import AxialError
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.trust import DOMAIN, Credentials, host_name

_OPTIONS = (("grpc.so_reuseport", 0),)
# Calls accepted at once, for each that is served at once: the others wait for a thread. One more is
# refused as RESOURCE_EXHAUSTED, which every caller reads as "ask again".
_ACCEPTED_FOR_EACH_SERVED = 8
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
    credentials: Credentials,
    *,
    workers: int = 8,
    grace_s: float = 5.0,
) -> Generator[int]:
    """Serves gRPC until the context is left; yields the bound port.

    Args:
        address: host:port; port 0 binds a free port.
        register: adds the servicers.
        credentials: who this server is; a caller must show a certificate of the same authority,
            and may call what `services.common.callers` lists for the caller.
        workers: calls served at once.
        grace_s: how long running calls may take to end.

    Raises:
        RpcError: the address is in use.
        TrustError: a file of the credentials is missing.
    """
    key, certificate, authority = credentials.read()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="rpc")
    server = grpc.server(
        pool,
        interceptors=[_Doorkeeper()],
        options=_OPTIONS,
        maximum_concurrent_rpcs=workers * _ACCEPTED_FOR_EACH_SERVED,
    )
    register(server)
    secured = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    try:
        port = server.add_secure_port(address, secured)
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


def open_channel(address: str, credentials: Credentials, callee: str) -> grpc.Channel:
    """A channel that reconnects within a second; close the channel or use it as a context manager.

    Args:
        address: host:port; what answers there need not be up.
        credentials: who calls.
        callee: the component that must answer there; another component's certificate is not
            believed.

    Raises:
        TrustError: a file of the credentials is missing.
    """
    secured = channel_credentials(credentials)
    return grpc.secure_channel(address, secured, options=channel_options(callee))


def channel_credentials(credentials: Credentials) -> grpc.ChannelCredentials:
    """A component's credentials as gRPC wants them.

    Raises:
        TrustError: a file of the credentials is missing.
    """
    key, certificate, authority = credentials.read()
    return grpc.ssl_channel_credentials(authority, key, certificate)


def channel_options(callee: str) -> list[tuple[str, Any]]:
    """The options of every channel: it reconnects soon, and believes only the callee."""
    return [("grpc.ssl_target_name_override", host_name(callee)), *RECONNECT_OPTIONS]


def caller_of(context: grpc.ServicerContext) -> str | None:
    """The component that calls, by its certificate; None for anybody else."""
    names = context.auth_context().get("x509_subject_alternative_name", ())
    for name in names:
        component, _, domain = bytes(name).decode("utf-8", "replace").partition(".")
        if domain == DOMAIN:
            return component
    return None


def current_metadata() -> tuple[tuple[str, str], ...]:
    """The current span's context, as metadata of an outgoing call."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())


def traceparent_of(context: grpc.ServicerContext) -> str:
    """The caller's trace context; empty when the caller sent none."""
    for key, value in context.invocation_metadata() or ():
        if key == _TRACEPARENT:
            return value if isinstance(value, str) else value.decode("ascii")
    return ""


@contextmanager
def rpc_errors(context: grpc.ServicerContext) -> Generator[None]:
    """Turns what is raised inside into a status.

    An `AxialError` reaches the caller with its message; of any other exception only the kind,
    because texts of libraries may quote a data set.
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
        # Not INTERNAL, which a call ends with whose server died, and which is tried again.
        context.abort(grpc.StatusCode.UNKNOWN, "an error that nobody foresaw; its log has it")


# The stubs have it generic; at run time it is not.
class _Doorkeeper(grpc.ServerInterceptor):  # pyright: ignore[reportMissingTypeArgument]
    """Lets a component call what is on its list, and nothing else."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        serve = handler.unary_unary
        method = handler_call_details.method

        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            caller = caller_of(context)
            # A method that streams has no entry in the list, and no way past this one.
            if serve is None or not may_call(caller, method):
                return _turn_away(context, caller, method)
            return serve(request, context)

        return grpc.unary_unary_rpc_method_handler(
            checked,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _turn_away(context: grpc.ServicerContext, caller: str | None, method: str) -> NoReturn:
    who = caller or "a stranger"
    get_logger("common").warning("call_turned_away", caller=who, method=method)
    audit(AuditEvent.SECURITY_ALERT, reason="method_not_allowed", peer=who)
    context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{who} may not call {method}")
    raise AssertionError("abort raises")

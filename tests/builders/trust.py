"""Certificates of the services for tests: one authority for all, kept in the build folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import grpc

from services.common.rpc import open_channel
from services.common.settings import Settings
from services.common.trust import Credentials, credentials_of

_PLACE = Settings(data_dir=Path(__file__).resolve().parents[2] / "build" / "cache" / "trust")

# For settings of services under test, ``rpc: {certificates: ...}``.
CERTIFICATES = _PLACE.certificates_dir


@cache
def credentials(component: str) -> Credentials:
    """What a component of the tests' stacks shows; made once, by the first test process."""
    return credentials_of(_PLACE, component)


def to_orchestrator(address: str) -> grpc.Channel:
    """A channel to the orchestrator, as the listener opens it."""
    return channel_to(address, "orchestrator", caller="listener")


def to_intake(port: int) -> grpc.Channel:
    """A channel to the listener's intake, as the gateway opens it."""
    return channel_to(f"127.0.0.1:{port}", "listener", caller="gateway")


def channel_to(address: str, callee: str, *, caller: str) -> grpc.Channel:
    """A channel to a component, as another one opens it."""
    return open_channel(address, credentials(caller), callee)

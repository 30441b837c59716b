"""Places on the network for tests."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from pathlib import Path

_FIRST = 10_000
_GIVEN_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A TCP port that nobody listens on, and that the system gives to nobody by itself.

    One of those that it gives away could be another process's before it is used.
    """
    first_given = int(_GIVEN_PORTS.read_text().split()[0])
    ours = range(_FIRST, first_given) or range(_FIRST, 1 << 16)
    while True:
        # Not the generator that tests seed: two workers would draw the same.
        port = secrets.choice(ours)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port

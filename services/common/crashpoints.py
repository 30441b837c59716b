"""Named points at which a test can stop a process dead, between any two steps.

In operation the environment variable is not set and a point costs one comparison. A test sets
``AXIAL_CRASH_FILE`` to a path for the whole stack and later writes a line into that file:

    orchestrator.infer.done            the process at this point kills itself (SIGKILL)
    orchestrator.infer.begin 4711      the process at this point kills process 4711 instead

The line is taken out (renamed) before the signal, so that it happens once.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Looked up once: some points are passed with every instance that arrives.
_CONFIGURED = os.environ.get("AXIAL_CRASH_FILE")


def crashpoint(name: str) -> None:
    """Marks a point between two steps; kills the process here when a test asked for it."""
    if _CONFIGURED is None:
        return
    request = Path(_CONFIGURED)
    try:
        wanted, *victim = request.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return
    if wanted != name:
        return
    try:
        request.rename(request.with_suffix(".done"))
    except FileNotFoundError:
        return  # another process took it
    os.kill(int(victim[0]) if victim else os.getpid(), signal.SIGKILL)

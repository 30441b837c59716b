"""``make demo`` as a whole, with everything built: wall time of the process."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.benchmarks.rows import Row, budget


def rows() -> list[Row]:
    """Runs the demonstration once from a warm cache."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "services.cli", "demo"], check=True)
    return [budget("whole-demo-warm", time.monotonic() - begun, "s", 60.0)]

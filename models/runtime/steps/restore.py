"""Step `restore`: see `models.manifest.plan.restore`."""

from __future__ import annotations

from models.manifest.plan.restore import Restore
from models.runtime.running import Run
from models.runtime.segments import Segments

__all__ = ["restore"]


def restore(step: Restore, run: Run) -> Segments:
    """Bring segments back to the slices of an input; how its axes lie is undone when written."""
    return run.segments(step.in_).restored(run.crew)

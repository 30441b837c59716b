"""Step `restore`: see `models.manifest.plan.restore`."""

from __future__ import annotations

from dataclasses import replace

from models.manifest.plan.restore import Restore
from models.runtime.grid import source_grid
from models.runtime.running import Run
from models.runtime.scores import Restored, Scores
from models.runtime.segments import Segments

__all__ = ["restore"]


def restore(step: Restore, run: Run) -> Segments | Scores:
    """Bring segments back to the slices of an input.

    Scores are interpolated where they are decided: no class of a whole scan is ever held.
    """
    value = run.values[step.in_]
    if isinstance(value, Scores):
        to = source_grid(step.to, run.volumes[step.to])
        return replace(value, restored=Restored(to, step.across == "nearest"))
    if step.in_ in run.apart:
        run.members[step.out] = replace(run.members[step.in_], on_slices=True)
    return run.segments(step.in_).restored(run.crew)

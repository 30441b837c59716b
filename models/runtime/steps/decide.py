"""Step `decide`: see `models.manifest.plan.decide`."""

from __future__ import annotations

import numpy as np

from models.manifest.plan.decide import Decide, Threshold
from models.runtime.running import Run, Seen
from models.runtime.segments import Segments

__all__ = ["decide"]


def decide(step: Decide, run: Run) -> Segments:
    """Make segments of scores."""
    seen = run.values[step.in_]
    if not isinstance(seen, Seen) or not isinstance(step.rule, Threshold):
        raise NotImplementedError(step.rule.kind)
    found = seen.foreground
    if step.rule.segment != 1 and found.labels is not None:
        np.multiply(found.labels, np.uint8(step.rule.segment), out=found.labels)
    return found

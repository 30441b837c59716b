"""Step `decide`: see `models.manifest.plan.decide`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.decide import Argmax, Decide, Threshold
from models.runtime.merging.decision import largest
from models.runtime.running import Run, Seen
from models.runtime.scores import Scores
from models.runtime.segments import Segments

__all__ = ["decide"]

U8 = NDArray[np.uint8]


def decide(step: Decide, run: Run) -> Segments:
    """Make segments of scores, slab by slab."""
    value = run.values[step.in_]
    if isinstance(value, Seen):
        return _numbered(value.foreground, step)
    if not isinstance(value, Scores):
        raise TypeError(f"{step.in_} holds no scores")
    labels = np.zeros(value.grid.shape, np.uint8)
    for slab in value.slabs:
        place: list[slice] = [slice(None)] * 3
        place[slab.axis] = slice(slab.first, slab.end)
        labels[place[0], place[1], place[2]] = _decided(slab.scores, step, run)
    return Segments.of(value.grid, labels)


def _numbered(found: Segments, step: Decide) -> Segments:
    """Give what a network decided the segment's number."""
    if isinstance(step.rule, Threshold) and step.rule.segment != 1 and found.labels is not None:
        np.multiply(found.labels, np.uint8(step.rule.segment), out=found.labels)
    return found


def _decided(scores: NDArray[np.float32], step: Decide, run: Run) -> U8:
    rule = step.rule
    if isinstance(rule, Threshold):
        return (scores[rule.channel] > rule.at).astype(np.uint8) * np.uint8(rule.segment)
    if isinstance(rule, Argmax):
        numbers = np.array([0, *rule.segments], np.uint8)
        return numbers[largest(scores, run.crew)]
    found = np.zeros(scores.shape[1:], np.uint8)
    for number, of_region in zip(rule.segments, scores, strict=True):
        found[of_region > rule.at] = number
    return found

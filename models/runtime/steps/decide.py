"""Step `decide`: see `models.manifest.plan.decide`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.decide import Above, Argmax, Decide, Regions, Threshold
from models.runtime.members import MembersWatch
from models.runtime.merging.decision import decide_slabs, largest
from models.runtime.merging.regions import regions_to_labels, thresholded
from models.runtime.restoring import restore_classes, restore_scores
from models.runtime.running import Run, Seen
from models.runtime.scores import Restored, Scores
from models.runtime.segments import Segments

__all__ = ["decide"]

U8 = NDArray[np.uint8]


def decide(step: Decide, run: Run) -> Segments:
    """Make segments of scores, slab by slab; where they are restored, on the slices."""
    value = run.values[step.in_]
    if isinstance(value, Seen):
        return _numbered(value.foreground, step)
    if isinstance(step.rule, Above):
        (values,) = run.image(step.in_).arrays(run.crew)
        labels = (values > step.rule.at).view(np.uint8) * np.uint8(step.rule.segment)
        return Segments.of(run.image(step.in_).grid, labels)
    if not isinstance(value, Scores):
        raise TypeError(f"{step.in_} holds no scores")
    if step.out not in run.apart:
        return _of_scores(value, step, run)
    watch = MembersWatch(value, step.rule.found, lambda scores: _decided(scores, step, run))
    found = _of_scores(watch.scores, step, run)
    run.members[step.out] = watch.members()
    return found


def _of_scores(scores: Scores, step: Decide, run: Run) -> Segments:
    if scores.restored is not None:
        labels = _on_the_slices(scores, scores.restored, step, run)
        return Segments.of(scores.restored.to, labels)
    labels = decide_slabs(scores, lambda slab: _decided(slab, step, run))
    return Segments.of(scores.grid, labels)


def _numbered(found: Segments, step: Decide) -> Segments:
    """Give what a network decided the segment's number."""
    if isinstance(step.rule, Threshold) and step.rule.segment != 1 and found.labels is not None:
        np.multiply(found.labels, np.uint8(step.rule.segment), out=found.labels)
    return found


def _on_the_slices(scores: Scores, restored: Restored, step: Decide, run: Run) -> U8:
    across = restored.nearest_across
    if isinstance(step.rule, Argmax):
        numbers = np.array([0, *step.rule.segments], np.uint8)
        found = restore_classes(scores, restored.to, run.crew, nearest_across=across)
        return numbers[found]
    return restore_scores(
        scores,
        restored.to,
        lambda block: _decided(block, step, run),
        256,
        run.crew,
        nearest_across=across,
    )


def _decided(scores: Any, step: Decide, run: Run) -> U8:
    rule = step.rule
    if isinstance(rule, Threshold):
        return (scores[rule.channel] > rule.at).astype(np.uint8) * np.uint8(rule.segment)
    if isinstance(rule, Argmax):
        numbers = np.array([0, *rule.segments], np.uint8)
        return numbers[largest(scores, run.crew)]
    if not isinstance(rule, Regions):
        raise TypeError("an image's rule is applied to scores")
    return regions_to_labels(thresholded(scores, [rule.at] * len(rule.segments)), rule.segments)

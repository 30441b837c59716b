"""Step `combine`: see `models.manifest.plan.combine`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.combine import Combine, Majority, Parts, Simple, Staple
from models.runtime.crew import Crew
from models.runtime.merging.in_step import combined
from models.runtime.merging.majority import majority
from models.runtime.merging.parts import add_part
from models.runtime.merging.rules import rule_of
from models.runtime.merging.simple import simple_regions
from models.runtime.merging.staple import staple_labels
from models.runtime.running import Run
from models.runtime.scores import Scores
from models.runtime.segments import Segments

__all__ = ["combine"]

U8 = NDArray[np.uint8]


def combine(step: Combine, run: Run) -> Segments | Scores:
    """Make one of what several members or part-models found."""
    rule = step.rule
    if not isinstance(rule, Majority | Staple | Simple | Parts):
        return combined([run.scores(name) for name in step.reads()], rule_of(rule))
    found = [run.segments(name) for name in step.reads()]
    grid = found[0].grid
    box = _around(found)
    if box is None:
        return Segments.none(grid)
    labels = _fused([_within(one, box) for one in found], rule, run.crew)
    placed = np.zeros(grid.shape, np.uint8)
    placed[box] = labels
    return Segments.of(grid, placed)


def _fused(members: list[U8], rule: Majority | Staple | Simple | Parts, crew: Crew) -> U8:
    if isinstance(rule, Majority):
        return majority(members, rule.tie)
    if isinstance(rule, Staple):
        return staple_labels(members)
    if isinstance(rule, Simple):
        regions = [(region[0], region) for region in rule.regions]
        return simple_regions(members, regions, rule.drop_below)
    whole = np.zeros_like(members[0])
    for member in members:
        add_part(whole, member, np.arange(256, dtype=np.uint8), rule.wins, crew)
    return whole


def _around(found: list[Segments]) -> tuple[slice, slice, slice] | None:
    """Return the box that holds all that any member found: elsewhere all agree on background."""
    boxes = [one.box for one in found if one.labels is not None]
    if not boxes:
        return None
    first, second, third = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return first, second, third


def _within(found: Segments, box: tuple[slice, slice, slice]) -> U8:
    """Return the labels [a0, a1, a2] of a box that holds all foreground."""
    labels = np.zeros([side.stop - side.start for side in box], np.uint8)
    if found.labels is not None:
        at = tuple(
            slice(own.start - side.start, own.stop - side.start)
            for own, side in zip(found.box, box, strict=True)
        )
        labels[at] = found.labels
    return labels

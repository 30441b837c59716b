"""Step `combine`: see `models.manifest.plan.combine`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.combine import (
    Combine,
    Inside,
    Majority,
    OfSegments,
    Overlapping,
    Simple,
    Staple,
    Union,
)
from models.runtime.crew import Crew
from models.runtime.merging.in_step import combined
from models.runtime.merging.majority import majority
from models.runtime.merging.overlap import any_of, each_of, overlapping
from models.runtime.merging.parts import add_part
from models.runtime.merging.rules import rule_of
from models.runtime.merging.simple import simple_regions
from models.runtime.merging.staple import staple_labels
from models.runtime.running import Run
from models.runtime.scores import Scores
from models.runtime.segments import Segments, box_around, within

__all__ = ["combine"]

U8 = NDArray[np.uint8]


def combine(step: Combine, run: Run) -> Segments | Scores:
    """Make one of what several members or part-models found."""
    rule = step.rule
    if not isinstance(rule, OfSegments):
        members = [run.scores(name) for name in step.reads()]
        return combined(members, rule_of(rule), apart=step.out in run.apart)
    found = [run.segments(name) for name in step.reads()]
    grid = found[0].grid
    box = box_around(found)
    if box is None:
        return Segments.none(grid)
    labels = _fused([within(one, box) for one in found], rule, run.crew)
    placed = np.zeros(grid.shape, np.uint8)
    placed[box] = labels
    return Segments.of(grid, placed)


def _fused(members: list[U8], rule: OfSegments, crew: Crew) -> U8:
    if isinstance(rule, Union):
        return any_of(members).view(np.uint8) * np.uint8(rule.segment)
    if isinstance(rule, Inside):
        return members[0] * each_of(members[1:]).view(np.uint8)
    if isinstance(rule, Overlapping):
        return overlapping(members[0], each_of(members[1:]), rule.connectivity, rule.share)
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

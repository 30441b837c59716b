"""Slabs of several members, cut so that each holds the same planes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from models.runtime.errors import RequestError
from models.runtime.scores import Scores, Slab

__all__ = ["combined", "in_step"]


def in_step(members: Sequence[Scores]) -> Iterator[list[Slab]]:
    """Give the members' slabs of the same planes, one slab of each; nothing is copied.

    Members may finish planes at different places.

    Raises:
        RequestError: members lie on other grids, or their slabs run along other axes or end early.
    """
    grid = members[0].grid
    if not all(each.grid.same_as(grid) for each in members):
        raise RequestError("Members of one ensemble give scores on different grids.")
    streams = [iter(each.slabs) for each in members]
    slabs = [next(stream) for stream in streams]
    axis = slabs[0].axis
    first = 0
    while first < grid.shape[axis]:
        if any(slab.axis != axis for slab in slabs):
            raise RequestError("Members of one ensemble give slabs along different axes.")
        end = min(slab.end for slab in slabs)
        yield [_cut(slab, first, end) for slab in slabs]
        first = end
        if first == grid.shape[axis]:
            return
        for place, stream in enumerate(streams):
            if slabs[place].end == first:
                found = next(stream, None)
                if found is None:
                    raise RequestError(f"A member's slabs end at plane {first} of {grid.shape}.")
                slabs[place] = found


def combined(
    members: Sequence[Scores], rule: Callable[[list[Any]], Any], *, apart: bool = False
) -> Scores:
    """Return the scores that a rule makes of the members', slab by slab.

    `apart`: whether slabs hold the members' own scores too.
    """

    def slabs() -> Iterator[Slab]:
        for each in in_step(members):
            first, scores = each[0], [slab.scores for slab in each]
            own = tuple(scores) if apart else ()
            yield Slab(first.axis, first.first, first.end, rule(scores), own)

    first = members[0]
    return Scores(slabs(), first.grid, first.classes, kind=first.kind)


def _cut(slab: Slab, first: int, end: int) -> Slab:
    if (slab.first, slab.end) == (first, end):
        return slab
    planes = (slice(None),) * (slab.axis + 1) + (slice(first - slab.first, end - slab.first),)
    return Slab(slab.axis, first, end, slab.scores[planes])

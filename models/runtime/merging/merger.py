"""Adding up the scores of overlapping tiles, and letting planes go as soon as no tile comes back.

The sums stand in a ring that is one tile long along the volume's long axis, so that memory grows
with a plane of the volume and not with the volume.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from models.runtime.crew import Crew
from models.runtime.errors import PipelineError, RequestError
from models.runtime.sampling import Shape
from models.runtime.scores import Slab
from models.runtime.tiling import Tiling

__all__ = ["Merger", "bytes_needed", "class_groups"]

_FLOAT: Final = 4
# A finished slab is a copy: small beside the ring, and large enough that the calls do not show.
_SLAB_BYTES: Final = 16 << 20
# What is weighted at once, in the cache.
_PIECE: Final = 1 << 17


def bytes_needed(tiling: Tiling, classes: int) -> int:
    """Return the bytes that merging so many classes holds: the ring, its weights, and a slab."""
    across = math.prod(tiling.padded) // tiling.padded[tiling.long_axis]
    plane = _FLOAT * across
    slab = max(_SLAB_BYTES, classes * plane)
    return (classes + 1) * plane * tiling.size[tiling.long_axis] + slab


def class_groups(tiling: Tiling, classes: int, budget_bytes: int) -> list[range]:
    """Cut the classes into the fewest groups that each can be merged within the budget.

    The tiles are run once for each group, and labels decided by `decision.Best`. Raises
    RequestError where one class alone does not fit.
    """
    for count in range(1, classes + 1):
        cuts = [classes * group // count for group in range(count + 1)]
        groups = [range(first, end) for first, end in itertools.pairwise(cuts)]
        if bytes_needed(tiling, max(map(len, groups))) <= budget_bytes:
            return groups
    raise RequestError(
        f"Merging one class of a volume of {tiling.shape} in tiles of {tiling.size} needs "
        f"{bytes_needed(tiling, 1)} bytes; the budget is {budget_bytes}."
    )


class Merger:
    """Weighted means of the scores of tiles, plane by plane of the volume.

    Every tile is added `passes` times (mirrored passes, members whose logits are averaged), tiles
    in the tiling's order along the long axis. After each tile, `slabs` gives what is finished:

        for start in tiling:
            merger.add(start, scores_of(start))
            yield from merger.slabs()

    Args:
        tiling: where the tiles lie; slabs are of the volume without its padding.
        classes: which scores are kept, of those that `add` gets.
        weights: float32 of a tile, from `tile_weights`.
        budget_bytes: what the merger may hold; see `bytes_needed` and `class_groups`.
        crew: shares the classes.
        passes: how often each tile is added.

    Raises:
        RequestError: the budget is too small.
    """

    def __init__(
        self,
        tiling: Tiling,
        classes: range,
        weights: Any,
        budget_bytes: int,
        crew: Crew,
        passes: int = 1,
    ) -> None:
        needed = bytes_needed(tiling, len(classes))
        if needed > budget_bytes:
            raise RequestError(
                f"Merging {len(classes)} classes of a volume of {tiling.shape} needs {needed} "
                f"bytes; the budget is {budget_bytes}. Merge them in class groups."
            )
        self._tiling: Final = tiling
        self._classes: Final = classes
        self._weights: Final = weights
        self._crew: Final = crew
        self._axis: Final = tiling.long_axis
        self._starts: Final = tiling.starts[self._axis]
        self._length: Final = tiling.size[self._axis]
        self._a_row: Final = tiling.count // len(self._starts) * passes
        sides = list(tiling.padded)
        sides[self._axis] = self._length
        xp = array_namespace(weights)
        where = device(weights)
        # Plane p of the volume stands at place p % length.
        self._sums: Final = xp.zeros((len(classes), *sides), dtype=xp.float32, device=where)
        self._weight: Final = xp.zeros(tuple(sides), dtype=xp.float32, device=where)
        self._even: Final = bool((weights == 1.0).all())
        # Tiles that were added of the present row, planes that are finished, planes given away.
        self._row = 0
        self._added = 0
        self._finished = 0
        self._given = 0

    def add(self, start: Shape, scores: Any) -> None:
        """Add a tile's scores: float32 [k, tile] of all classes, `start` on the padded grid.

        Raises:
            PipelineError: the tile is out of order, or finished slabs wait to be taken.
        """
        along = start[self._axis]
        if self._given < self._finished:
            raise PipelineError("Finished slabs wait: take them before the next tile is added.")
        if self._row == len(self._starts) or along != self._starts[self._row]:
            raise PipelineError(f"The tile at {start} comes out of its row of tiles.")
        for tile_part, ring_part in self._ring_parts(along):
            self._add(start, tile_part, ring_part, scores)
        self._added += 1
        if self._added == self._a_row:
            self._row += 1
            self._added = 0
            last = self._row == len(self._starts)
            end = self._tiling.padded[self._axis]
            self._finished = end if last else self._starts[self._row]

    def slabs(self) -> Iterator[Slab]:
        """Give what is finished and was not given yet, and let it go; arrays of their own."""
        before = self._tiling.before[self._axis]
        side = self._tiling.shape[self._axis]
        plane = _FLOAT * len(self._classes) * math.prod(self._weight.shape) // self._length
        most = max(_SLAB_BYTES // plane, 1)
        while self._given < self._finished:
            first = self._given
            at = first % self._length
            count = min(most, self._finished - first, self._length - at)
            self._given += count
            low, high = max(first - before, 0), min(first + count - before, side)
            part = slice(at, at + count)
            if low < high:
                inside = slice(at + low + before - first, at + high + before - first)
                yield Slab(self._axis, low, high, self._means(inside))
            self._clear(part)

    def _ring_parts(self, along: int) -> list[tuple[slice, slice]]:
        """A tile's planes as the parts of the ring where they stand: two where it goes round."""
        at = along % self._length
        head = self._length - at
        parts = [(slice(0, head), slice(at, self._length))]
        if at:
            parts.append((slice(head, self._length), slice(0, at)))
        return parts

    def _add(self, start: Shape, of_tile: slice, of_ring: slice, scores: Any) -> None:
        tile_part = self._along([slice(None)] * 3, of_tile)
        across = [
            slice(first, first + length)
            for first, length in zip(start, self._tiling.size, strict=True)
        ]
        ring_part = self._along(across, of_ring)
        weights = self._weights[tile_part]
        self._weight[ring_part] += weights

        def work(first: int, end: int) -> None:
            for place in range(first, end):
                into = self._sums[(place, *ring_part)]
                of_class = scores[(self._classes[place], *tile_part)]
                self._add_weighted(into, of_class, weights)

        if is_numpy_array(scores):
            self._crew.share(len(self._classes), work, fewest=2)
        else:
            work(0, len(self._classes))

    def _add_weighted(self, into: Any, scores: Any, weights: Any) -> None:
        if self._even:
            into += scores
            return
        if not is_numpy_array(scores):
            into += scores * weights
            return
        # In pieces, so that the product never leaves the cache.
        step = max(_PIECE // math.prod(scores.shape[1:]), 1)
        for first in range(0, len(scores), step):
            piece = slice(first, first + step)
            into[piece] += scores[piece] * weights[piece]

    def _means(self, part: slice) -> Any:
        before, shape = self._tiling.before, self._tiling.shape
        inside = [slice(first, first + side) for first, side in zip(before, shape, strict=True)]
        of_volume = self._along(inside, part)
        # A single division a voxel; each class is then only multiplied.
        share = 1.0 / self._weight[of_volume]
        sums = self._sums[(slice(None), *of_volume)]
        if not is_numpy_array(sums):
            return sums * share
        means = np.empty(sums.shape, np.float32)

        def work(first: int, end: int) -> None:
            np.multiply(sums[first:end], share, out=means[first:end])

        self._crew.share(len(sums), work, fewest=2)
        return means

    def _clear(self, part: slice) -> None:
        planes = self._along([slice(None)] * 3, part)
        self._sums[(slice(None), *planes)] = 0.0
        self._weight[planes] = 0.0

    def _along(self, slices: list[slice], part: slice) -> tuple[slice, slice, slice]:
        """Return the slices with that of the long axis replaced."""
        replaced = list(slices)
        replaced[self._axis] = part
        return replaced[0], replaced[1], replaced[2]

"""Connected components and holes of one segment, in place."""

from __future__ import annotations

import itertools
from typing import Literal

import cc3d
import fill_voids
import numpy as np
from numpy.typing import NDArray

__all__ = ["close_gaps", "fill_holes", "foreground_box", "keep_largest_component"]

U8 = NDArray[np.uint8]


def foreground_box(mask: U8) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds all foreground of [a, b, c]; None when there is none."""
    over_first = mask.max(axis=0)
    first = np.flatnonzero(mask.reshape(mask.shape[0], -1).max(axis=1))
    if len(first) == 0:
        return None
    second = np.flatnonzero(over_first.max(axis=1))
    third = np.flatnonzero(over_first.max(axis=0))
    a, b, c = (slice(int(axis[0]), int(axis[-1]) + 1) for axis in (first, second, third))
    return a, b, c


def keep_largest_component(
    mask: U8, connectivity: Literal[6, 18, 26], second_above: float | None = None
) -> None:
    """Clear, in place, every component of a 0/1 mask but the largest.

    Equally large ones: the one met first in memory order stays. `second_above`: the second largest
    stays too where it has more than this share of the largest one's voxels.
    """
    labels, count = cc3d.connected_components(
        mask, connectivity=connectivity, return_N=True, binary_image=True
    )
    if count < 2:
        return
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    largest = int(sizes[1:].argmax()) + 1
    if second_above is None:
        np.equal(labels, largest, out=mask.view(np.bool_))
        return
    stays = np.zeros(len(sizes), np.bool_)
    stays[largest] = True
    sizes[0], limit = 0, second_above * sizes[largest]
    sizes[largest] = 0
    second = int(sizes.argmax())
    stays[second] = sizes[second] > limit
    mask[...] = stays[labels]


def close_gaps(mask: U8, connectivity: Literal[6, 18, 26]) -> None:
    """Grow a 0/1 mask by its neighbours and shrink it again, in place.

    Around the mask there is background, and growing goes on there: nothing is lost at the edge.
    Costs a pass for each neighbour, twice.
    """
    reach = {6: 1, 18: 2, 26: 3}[connectivity]
    wide = np.pad(mask.view(np.bool_), 2)
    offsets = [
        offset
        for offset in itertools.product((-1, 0, 1), repeat=3)
        if 0 < sum(map(abs, offset)) <= reach
    ]
    grown = wide.copy()
    for offset in offsets:
        _within(grown)[...] |= _within(wide, offset)
    shrunk = grown.copy()
    for offset in offsets:
        _within(shrunk)[...] &= _within(grown, offset)
    mask[...] = shrunk[2:-2, 2:-2, 2:-2]


def _within(array: NDArray[np.bool_], offset: tuple[int, ...] = (0, 0, 0)) -> NDArray[np.bool_]:
    """View an array without its outermost voxels, looking by an offset aside."""
    return array[
        tuple(slice(1 + one, side - 1 + one) for one, side in zip(offset, array.shape, strict=True))
    ]


def fill_holes(mask: U8) -> None:
    """Fill, in place, background that foreground encloses (by faces, in 3D).

    The library works on memory in Fortran order; in place it would scramble any other. The
    transposed view of a contiguous mask is just that, and holes are the same from each side.
    """
    fill_voids.fill(mask.T, in_place=True)

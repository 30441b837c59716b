"""Connected components and holes of one segment, in place."""

from __future__ import annotations

from typing import Literal

import cc3d
import fill_voids
import numpy as np
from numpy.typing import NDArray

__all__ = ["fill_holes", "foreground_box", "keep_largest_component"]

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


def keep_largest_component(mask: U8, connectivity: Literal[6, 18, 26]) -> None:
    """Clear, in place, every component of a 0/1 mask but the largest.

    Equally large ones: the one met first in memory order stays.
    """
    labels, count = cc3d.connected_components(
        mask, connectivity=connectivity, return_N=True, binary_image=True
    )
    if count < 2:
        return
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    np.equal(labels, int(sizes[1:].argmax()) + 1, out=mask.view(np.bool_))


def fill_holes(mask: U8) -> None:
    """Fill, in place, background that foreground encloses (by faces, in 3D).

    The library works on memory in Fortran order; in place it would scramble any other. The
    transposed view of a contiguous mask is just that, and holes are the same from each side.
    """
    fill_voids.fill(mask.T, in_place=True)

"""From one order and direction of axes to another, and back, without moving data.

A volume comes as [k, j, i] with an affine that maps (i, j, k, 1) to LPS millimetres. Networks see
arrays whose axes point most nearly to given directions. Both views of the same memory differ by a
permutation and flips only; nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from models.runtime.errors import RequestError

__all__ = ["Turn", "closest", "closest_canonical"]

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Right, anterior, superior, and what lies against them.
_DIRECTIONS = "RASLPI"


@dataclass(frozen=True, slots=True)
class Turn:
    """A permutation and flips: axis n of the turned array is axis `order[n]` of the array.

    `flipped[n]` says whether the turned axis n runs against it.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def apply(self, array: Any) -> Any:
        """Turn the last three axes of an array; a view, but a copy of a torch tensor's flips."""
        xp = array_namespace(array)
        leading = array.ndim - 3
        axes = (*range(leading), *(leading + axis for axis in self.order))
        turned = xp.permute_dims(array, axes)
        flips = tuple(leading + axis for axis in range(3) if self.flipped[axis])
        return xp.flip(turned, axis=flips) if flips else turned

    @property
    def back(self) -> Turn:
        """The turn that undoes this one."""
        first, second, third = (self.order.index(axis) for axis in range(3))
        return Turn(
            (first, second, third),
            (self.flipped[first], self.flipped[second], self.flipped[third]),
        )


def closest(axes: str, affine_lps: NDArray[np.float64]) -> Turn:
    """Find the turn of [k, j, i] to the axes nearest to the letters of `axes` ("RAS", "SPL").

    Args:
        axes: where each array axis points, the first one first.
        affine_lps: float64 [4, 4], (i, j, k, 1) to LPS millimetres.

    Raises:
        RequestError: the letters are no three axes, or the affine does not span space.
    """
    places = [_DIRECTIONS.find(letter) for letter in axes]
    if -1 in places or sorted(place % 3 for place in places) != [0, 1, 2]:
        raise RequestError(f"{axes!r} names no three axes: write letters such as RAS or SPL.")
    canonical = closest_canonical(affine_lps)
    order = [canonical.order[place % 3] for place in places]
    flipped = [canonical.flipped[place % 3] != (place >= 3) for place in places]
    return Turn((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))


def closest_canonical(affine_lps: NDArray[np.float64]) -> Turn:
    """Find the turn of [k, j, i] to the axes nearest to right, anterior, superior.

    `affine_lps`: float64 [4, 4], (i, j, k, 1) to LPS millimetres. Decides exactly as nibabel's
    `io_orientation` / `as_closest_canonical` (5.4), which the networks' own package uses: the
    polar part of the direction matrix, its columns taken from the one that lies nearest to an axis
    to the one that lies farthest, each axis given once.

    Raises:
        RequestError: the affine does not span space.
    """
    if affine_lps.shape != (4, 4) or not np.isfinite(affine_lps).all():
        raise RequestError(f"The affine must be 4 x 4 finite numbers, not {affine_lps.tolist()}.")
    columns = _LPS_TO_RAS[:, None] * affine_lps[:3, :3]
    zooms = np.sqrt((columns**2).sum(axis=0))
    if (zooms == 0).any():
        raise RequestError(f"An axis of the affine {affine_lps.tolist()} has no length.")
    left, scales, right = np.linalg.svd(columns / zooms)
    if scales.min() <= scales.max() * 3 * np.finfo(np.float64).eps:
        raise RequestError(f"The axes of the affine {affine_lps.tolist()} lie in one plane.")
    rotation = left @ right
    source_axis = [0, 0, 0]
    flipped = [False, False, False]
    # The surest axis first: then it does not matter how the volume is stored.
    for column in np.argsort(np.min(-(rotation**2), axis=0), kind="stable").tolist():
        canonical = int(np.argmax(np.abs(rotation[:, column])))
        flipped[canonical] = bool(rotation[canonical, column] < 0)
        source_axis[canonical] = 2 - column
        rotation[canonical, :] = 0
    return Turn(
        (source_axis[0], source_axis[1], source_axis[2]), (flipped[0], flipped[1], flipped[2])
    )

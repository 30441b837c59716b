"""From a volume's own axes to the axes a network was trained on, and back, without moving data.

A volume is indexed [k, j, i] with an affine that maps (i, j, k, 1) to LPS millimetres. Networks
see [x, y, z] with the axes pointing most nearly to right, anterior, superior. Both views of the
same memory differ by a permutation and flips only; nothing is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import RequestError

__all__ = ["Orientation", "closest", "closest_canonical"]

_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Right, anterior, superior, and what lies against them.
_DIRECTIONS = "RASLPI"


@dataclass(frozen=True, slots=True)
class Orientation:
    """Where each wanted axis (of RAS: x to the right, y anterior, z superior) lies in the source.

    `source_axis[c]` is the axis of the source array [k, j, i] that wanted axis c runs along,
    `flipped[c]` whether it runs against it.
    """

    source_axis: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]

    def to_canonical(self, source: NDArray[Any]) -> NDArray[Any]:
        """View a source array [k, j, i] as [x, y, z]; no copy."""
        return source.transpose(self.source_axis)[self._steps()]

    def to_source(self, canonical: NDArray[Any]) -> NDArray[Any]:
        """View a canonical array [x, y, z] as [k, j, i]; no copy."""
        back = [self.source_axis.index(axis) for axis in range(3)]
        return canonical[self._steps()].transpose(back)

    def _steps(self) -> tuple[slice, slice, slice]:
        first, second, third = (slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return first, second, third


def closest(axes: str, affine_lps: NDArray[np.float64]) -> Orientation:
    """Find the axes nearest to the letters of `axes`, first array axis first ("RAS", "SPL").

    Raises RequestError for an affine that does not span space; see `closest_canonical`.
    """
    canonical = closest_canonical(affine_lps)
    places = [_DIRECTIONS.index(letter) for letter in axes]
    source_axis = [canonical.source_axis[place % 3] for place in places]
    flipped = [canonical.flipped[place % 3] != (place >= 3) for place in places]
    return Orientation(
        (source_axis[0], source_axis[1], source_axis[2]), (flipped[0], flipped[1], flipped[2])
    )


def closest_canonical(affine_lps: NDArray[np.float64]) -> Orientation:
    """Find the axes nearest to right, anterior, superior.

    `affine_lps`: float64 [4, 4], (i, j, k, 1) to LPS millimetres. Decides exactly as nibabel's
    `io_orientation` / `as_closest_canonical` (5.4), which the networks' own package uses: the
    polar part of the direction matrix, its columns taken from the one that lies nearest to an axis
    to the one that lies farthest, each axis given once.
    Raises RequestError for an affine that does not span space.
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
    return Orientation(
        (source_axis[0], source_axis[1], source_axis[2]), (flipped[0], flipped[1], flipped[2])
    )

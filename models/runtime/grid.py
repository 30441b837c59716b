"""Where the voxels of an array lie in the patient.

A grid is indexed in array order, first index first: `affine_lps` maps (i0, i1, i2, 1) to LPS
millimetres, and voxel centres lie at whole indices. Turning, cropping and resampling an array make
another grid of the same patient, so that a result finds the way back by coordinates alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from models.runtime.errors import RequestError
from models.runtime.orientation import closest_canonical

__all__ = ["SAME_PLACE_MM", "Box", "Grid", "Shape", "Turn"]

Shape = tuple[int, int, int]
Slices = tuple[slice, slice, slice]

# Two grids are the same when no voxel of one lies farther than this from the other's: a thousandth
# of the finest pixel in use, and far above the rounding of positions written with six decimals.
SAME_PLACE_MM: Final = 1e-3

# The letters of the two ends of the canonical axes (x to the right, y anterior, z superior).
_POSITIVE: Final = "RAS"
_NEGATIVE: Final = "LPI"
_LETTERS: Final = {"R": 0, "A": 1, "S": 2, "L": 0, "P": 1, "I": 2}


@dataclass(frozen=True, slots=True)
class Turn:
    """A permutation and flips: axis n of the turned array is axis `order[n]` of the array.

    `flipped[n]` says whether the turned axis n runs against it.
    """

    order: Shape
    flipped: tuple[bool, bool, bool]

    def apply(self, array: Any) -> Any:
        """Turn the last three axes of an array; a view, but a copy of a torch tensor's flips."""
        return self._flip(self._permute(array, self.order), self.flipped)

    @property
    def back(self) -> Turn:
        """The turn that undoes this one."""
        first, second, third = (self.order.index(axis) for axis in range(3))
        return Turn(
            (first, second, third),
            (self.flipped[first], self.flipped[second], self.flipped[third]),
        )

    @staticmethod
    def _permute(array: Any, order: Shape) -> Any:
        leading = tuple(range(array.ndim - 3))
        last = (len(leading) + axis for axis in order)
        return array_namespace(array).permute_dims(array, (*leading, *last))

    @staticmethod
    def _flip(array: Any, flipped: tuple[bool, bool, bool]) -> Any:
        axes = tuple(array.ndim - 3 + axis for axis in range(3) if flipped[axis])
        return array_namespace(array).flip(array, axis=axes) if axes else array


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """A regular grid of voxels in patient space.

    `shape` and the columns of `affine_lps` (float64 [4, 4]) are in array order. Raises RequestError
    for an empty shape and an affine that does not span space.
    """

    shape: Shape
    affine_lps: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise RequestError(f"A grid needs three sides of at least one voxel, not {self.shape}.")
        affine = np.array(self.affine_lps, np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine_lps", affine)
        closest_canonical(affine)

    @property
    def axes(self) -> str:
        """Letters in array order: where each axis points most nearly, such as "SPL"."""
        turn = self._from_canonical()
        return "".join(
            (_NEGATIVE if flip else _POSITIVE)[axis]
            for axis, flip in zip(turn.order, turn.flipped, strict=True)
        )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along each axis."""
        first, second, third = np.linalg.norm(self.affine_lps[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3]))) / 1000.0

    def positions_lps(self, indices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return LPS millimetres [..., 3] of indices [..., 3] in array order."""
        return indices @ self.affine_lps[:3, :3].T + self.affine_lps[:3, 3]

    def same_as(self, other: Grid, within_mm: float = SAME_PLACE_MM) -> bool:
        """Whether both have the same voxels at the same places.

        The distance of two affine maps is largest at a corner, so the corners tell.
        """
        if self.shape != other.shape:
            return False
        corners = np.array(list(itertools.product(*((0.0, side - 1.0) for side in self.shape))))
        apart = self.positions_lps(corners) - other.positions_lps(corners)
        return bool((np.linalg.norm(apart, axis=1) <= within_mm).all())

    def turn_to(self, axes: str) -> Turn:
        """Return the turn after which the axes point to the letters; "source" turns nothing.

        Raises RequestError for letters that are no three axes.
        """
        if axes == "source":
            return Turn((0, 1, 2), (False, False, False))
        if len(axes) != 3 or sorted(_LETTERS.get(letter, -1) for letter in axes) != [0, 1, 2]:
            raise RequestError(f"{axes!r} names no three axes: write letters such as RAS or SPL.")
        own = self._from_canonical()
        order = [own.order.index(_LETTERS[letter]) for letter in axes]
        flipped = [
            own.flipped[axis] != (letter in _NEGATIVE)
            for axis, letter in zip(order, axes, strict=True)
        ]
        return Turn((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))

    def turned(self, turn: Turn) -> Grid:
        """Return the grid of an array of this grid that is turned."""
        affine = np.array(self.affine_lps)
        for axis, (source, flip) in enumerate(zip(turn.order, turn.flipped, strict=True)):
            column = self.affine_lps[:, source]
            affine[:, axis] = -column if flip else column
            if flip:
                affine[:, 3] += column * (self.shape[source] - 1)
        first, second, third = (self.shape[axis] for axis in turn.order)
        return Grid((first, second, third), affine)

    def moved(self, start: Shape, shape: Shape) -> Grid:
        """Return the grid of `shape` voxels whose first one is this grid's voxel `start`.

        A crop, or a padding where `start` lies before this grid or `shape` ends behind it.
        """
        affine = np.array(self.affine_lps)
        affine[:3, 3] = self.positions_lps(np.array(start, np.float64))
        return Grid(shape, affine)

    def _from_canonical(self) -> Turn:
        """The turn that makes an array of this grid of one in [right, anterior, superior]."""
        # The rule sees columns in the order (i, j, k) of an array [k, j, i], as nibabel does.
        found = closest_canonical(self.affine_lps[:, [2, 1, 0, 3]])
        return Turn(found.source_axis, found.flipped).back


@dataclass(frozen=True, eq=False, slots=True)
class Box:
    """A part of a grid: `slices` in array order, of step one, inside the grid.

    Raises RequestError for slices that are empty or leave the grid.
    """

    grid: Grid
    slices: Slices

    def __post_init__(self) -> None:
        for part, side in zip(self.slices, self.grid.shape, strict=True):
            if part.step not in (None, 1) or not 0 <= part.start < part.stop <= side:
                raise RequestError(f"{part} is no part of an axis of {side} voxels.")

    @property
    def inside(self) -> Grid:
        """The grid of the voxels in the box."""
        first, second, third = self.slices
        return self.grid.moved(
            (first.start, second.start, third.start),
            (first.stop - first.start, second.stop - second.start, third.stop - third.start),
        )

    def grown(self, by: Shape) -> Box:
        """Return the box with so many voxels more on both sides of each axis, inside the grid."""
        first, second, third = (
            slice(max(part.start - more, 0), min(part.stop + more, side))
            for part, more, side in zip(self.slices, by, self.grid.shape, strict=True)
        )
        return Box(self.grid, (first, second, third))

    def cut(self, array: Any) -> Any:
        """View the box of an array [..., a0, a1, a2] of the whole grid."""
        return array[(..., *self.slices)]

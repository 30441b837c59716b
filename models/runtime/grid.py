"""Where the voxels of an array lie in the patient, and what was done to them since the scan.

A grid is indexed in array order, first index first: `affine_lps` maps (i0, i1, i2, 1) to LPS
millimetres, and voxel centres lie at whole indices. Orienting, cropping and resampling an array
make another grid of the same patient. Labels return by undoing these changes, the last first, so
that they lie on the source's voxels by indices and not by comparing coordinates; scores return by
coordinates (`models.runtime.placing`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import RequestError
from models.runtime.interpolation import nearest_indices
from models.runtime.orientation import Turn, closest, closest_canonical
from models.runtime.resample import nearest_exact_indices
from models.runtime.sampling import AxisSampling, Centres, Shape, samplings
from models.runtime.source_volume import SourceVolume

__all__ = [
    "SAME_PLACE_MM",
    "Box",
    "Change",
    "Cropped",
    "Grid",
    "Moved",
    "Oriented",
    "Padded",
    "Resampled",
    "Shape",
    "source_grid",
]

Box = tuple[slice, slice, slice]

# Two grids are the same when no voxel of one lies farther than this from the other's: a thousandth
# of the finest pixel in use, and far above the rounding of positions written with six decimals.
SAME_PLACE_MM: Final = 1e-3

# The letters of the two ends of the canonical axes (x to the right, y anterior, z superior).
_POSITIVE: Final = "RAS"
_NEGATIVE: Final = "LPI"
# The letters of a volume's own axes: slices, rows, columns.
_STORED: Final = "kji"


@dataclass(frozen=True, slots=True)
class Oriented:
    """Axes were permuted and flipped."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Cropped:
    """`box` was cut out."""

    box: Box


@dataclass(frozen=True, slots=True)
class Padded:
    """Voxels were put around; the grid before lies in `box`."""

    box: Box


@dataclass(frozen=True, slots=True)
class Moved:
    """The whole grid was moved in the patient, by a registration."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """Other voxels were put over the same place.

    `axes`: where along each axis the new voxels look among the old ones.
    """

    axes: tuple[AxisSampling, AxisSampling, AxisSampling]

    def nearest_old(self, axis: int) -> NDArray[np.intp]:
        """Return the voxel of the old grid that is nearest to each of the new one."""
        sampling = self.axes[axis]
        if sampling.centres == "half-pixel":
            return nearest_exact_indices(sampling.size_in, sampling.size_out)
        return nearest_indices(sampling)

    def nearest_new(self, axis: int) -> NDArray[np.intp]:
        """Return the voxel of the new grid that is nearest to each of the old one."""
        sampling = self.axes[axis]
        if sampling.centres == "half-pixel":
            return nearest_exact_indices(sampling.size_out, sampling.size_in)
        return nearest_indices(
            AxisSampling(
                sampling.size_out,
                sampling.size_in,
                sampling.centres,
                1.0 / sampling.scale,
                -sampling.shift / sampling.scale,
            )
        )


Change = Oriented | Cropped | Padded | Moved | Resampled


@dataclass(frozen=True, eq=False, slots=True)
class Grid:
    """A regular grid of voxels in patient space.

    `shape` and the columns of `affine_lps` (float64 [4, 4]) are in array order. `role`: the input
    whose volume it was made from; `before` and `change`: the grid that became this one, and how,
    None of a volume as it was stored.

    Raises:
        RequestError: the shape is empty, or the affine does not span space.
    """

    shape: Shape
    affine_lps: NDArray[np.float64]
    role: str = ""
    before: Grid | None = None
    change: Change | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise RequestError(f"A grid needs three sides of at least one voxel, not {self.shape}.")
        affine = np.array(self.affine_lps, np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine_lps", affine)
        closest_canonical(self._as_stored())

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
        """Return the turn after which the axes point to the letters, or are the stored ones.

        `axes`: as "SPL"; or, of a volume as it was stored, an order of its own axes as "kji".

        Raises:
            RequestError: the letters are no three axes.
        """
        if sorted(axes) == sorted(_STORED):
            first, second, third = (_STORED.index(axis) for axis in axes)
            return Turn((first, second, third), (False, False, False))
        return closest(axes, self._as_stored())

    def turned(self, turn: Turn) -> Grid:
        """Return the grid of an array of this grid that is turned."""
        affine = np.array(self.affine_lps)
        for axis, (source, flip) in enumerate(zip(turn.order, turn.flipped, strict=True)):
            column = self.affine_lps[:, source]
            affine[:, axis] = -column if flip else column
            if flip:
                affine[:, 3] += column * (self.shape[source] - 1)
        first, second, third = (self.shape[axis] for axis in turn.order)
        return self._changed((first, second, third), affine, Oriented(turn))

    def cropped(self, box: Box) -> Grid:
        """Return the part of the grid in `box`.

        Raises:
            RequestError: the box is empty or leaves the grid.
        """
        for part, side in zip(box, self.shape, strict=True):
            if part.step not in (None, 1) or not 0 <= part.start < part.stop <= side:
                raise RequestError(f"{part} is no part of an axis of {side} voxels.")
        affine = np.array(self.affine_lps)
        affine[:3, 3] = self.positions_lps(np.array([part.start for part in box], np.float64))
        first, second, third = (part.stop - part.start for part in box)
        return self._changed((first, second, third), affine, Cropped(box))

    def padded(self, shape: Shape) -> Grid:
        """Return the grid with voxels around it, as many before as behind, the odd one behind."""
        box: list[slice] = []
        for side, wide in zip(self.shape, shape, strict=True):
            before = (wide - side) // 2
            box.append(slice(before, before + side))
        affine = np.array(self.affine_lps)
        affine[:3, 3] = self.positions_lps(np.array([-part.start for part in box], np.float64))
        return self._changed(shape, affine, Padded((box[0], box[1], box[2])))

    def moved(self, by: NDArray[np.float64]) -> Grid:
        """Return the grid at other places: `by` float64 [4, 4] maps LPS millimetres to these."""
        return self._changed(self.shape, by @ self.affine_lps, Moved())

    def resampled(
        self,
        centres: Centres,
        *,
        shape: Shape | None = None,
        spacing_mm: tuple[float, float, float] | None = None,
    ) -> Grid:
        """Return a grid over the same place, of so many voxels or of voxels of about that size.

        By a size the shape is round(shape * spacing / spacing_mm), halves to even, as nnU-Net,
        TotalSegmentator and SciPy have it. With `half-pixel` and `aligned` centres the spacing
        follows from the shapes; with `spacing` it is as asked, and the first voxel stays.
        """
        if shape is None:
            if spacing_mm is None:
                raise ValueError("neither a shape nor a spacing is wanted")
            first, second, third = (
                max(round(side * own / asked), 1)
                for side, own, asked in zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
            )
            shape = (first, second, third)
        if centres == "spacing":
            if spacing_mm is None:
                raise ValueError("steps in millimetres need a spacing")
            axes = [
                AxisSampling(side, wanted, "spacing", asked / own)
                for side, wanted, own, asked in zip(
                    self.shape, shape, self.spacing_mm, spacing_mm, strict=True
                )
            ]
        else:
            axes = list(samplings(self.shape, shape, centres))
        affine = np.array(self.affine_lps)
        for axis, sampling in enumerate(axes):
            scale, shift = sampling.line
            affine[:, 3] += self.affine_lps[:, axis] * shift
            affine[:, axis] = self.affine_lps[:, axis] * scale
        return self._changed(shape, affine, Resampled((axes[0], axes[1], axes[2])))

    def _changed(self, shape: Shape, affine_lps: NDArray[np.float64], change: Change) -> Grid:
        return Grid(shape, affine_lps, self.role, self, change)

    def _as_stored(self) -> NDArray[np.float64]:
        """The affine of an array [k, j, i] of this grid, as (i, j, k, 1) to LPS millimetres."""
        return self.affine_lps[:, [2, 1, 0, 3]]

    def _from_canonical(self) -> Turn:
        """The turn that makes an array of this grid of one in [right, anterior, superior]."""
        return closest_canonical(self._as_stored()).back


def source_grid(role: str, source: SourceVolume) -> Grid:
    """Return the grid of a role's volume as it was sent: [k, j, i]."""
    return Grid(source.shape, source.affine_lps[:, [2, 1, 0, 3]], role)

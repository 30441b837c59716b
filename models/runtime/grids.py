"""Where the values of a run lie: a grid knows what was done to it since the scan.

Labels return by undoing the changes, the last first, so that they lie on the source's voxels by
indices and not by comparing coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.runtime.interpolation import nearest_indices
from models.runtime.orientation import Orientation, closest
from models.runtime.resample import nearest_exact_indices
from models.runtime.sampling import AxisSampling, Centres, samplings
from models.runtime.source_volume import SourceVolume

__all__ = ["Box", "Change", "Cropped", "Grid", "Oriented", "Resampled", "Shape", "source_grid"]

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, slots=True)
class Oriented:
    """Axes were permuted and flipped."""

    orientation: Orientation


@dataclass(frozen=True, slots=True)
class Cropped:
    """`box` was cut out of a grid of `of` voxels."""

    of: Shape
    box: Box


@dataclass(frozen=True, slots=True)
class Resampled:
    """A grid of `of` voxels became one of other voxels over the same place.

    `axes`: where along each axis the new voxels look among the old ones.
    """

    of: Shape
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


Change = Oriented | Cropped | Resampled


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid [a0, a1, a2] made from a role's source.

    `spacing_mm`: between voxels along each array axis. `changes`: since the source, in order.
    """

    role: str
    shape: Shape
    spacing_mm: tuple[float, float, float]
    changes: tuple[Change, ...] = ()

    def oriented(self, axes: str, affine_lps: NDArray[np.float64]) -> Grid:
        """Return the source's grid turned so that its axes point most nearly to `axes`."""
        orientation = closest(axes, affine_lps)
        first, second, third = orientation.source_axis
        return replace(
            self,
            shape=(self.shape[first], self.shape[second], self.shape[third]),
            spacing_mm=(self.spacing_mm[first], self.spacing_mm[second], self.spacing_mm[third]),
            changes=(*self.changes, Oriented(orientation)),
        )

    def cropped(self, box: Box) -> Grid:
        """Return the part of the grid in `box`."""
        first, second, third = (side.stop - side.start for side in box)
        return replace(
            self,
            shape=(first, second, third),
            changes=(*self.changes, Cropped(self.shape, box)),
        )

    def resampled(
        self,
        centres: Centres,
        *,
        shape: Shape | None,
        spacing_mm: tuple[float, float, float] | None,
    ) -> Grid:
        """Return a grid over the same place, of so many voxels or of voxels of that size."""
        if shape is None:
            if spacing_mm is None:
                raise ValueError("neither a shape nor a spacing is wanted")
            # As nnU-Net, TotalSegmentator and SciPy have it: halves to even.
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
        apart = [own * axis.scale for own, axis in zip(self.spacing_mm, axes, strict=True)]
        return replace(
            self,
            shape=shape,
            spacing_mm=(apart[0], apart[1], apart[2]),
            changes=(*self.changes, Resampled(self.shape, (axes[0], axes[1], axes[2]))),
        )


def source_grid(role: str, source: SourceVolume) -> Grid:
    """Return the grid of a volume as it was sent: [k, j, i]."""
    across = np.sqrt((source.affine_lps[:3, :3] ** 2).sum(axis=0))
    return Grid(role, source.shape, (float(across[2]), float(across[1]), float(across[0])))

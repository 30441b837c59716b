"""Where the values of a run lie: a grid knows what was done to it since the scan.

Labels return by undoing the changes, the last first, so that they lie on the source's voxels by
indices and not by comparing coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.orientation import Orientation, closest
from models.runtime.resample import nearest_exact_indices
from models.runtime.source_volume import SourceVolume

__all__ = ["Box", "Change", "Cropped", "Grid", "Oriented", "Resampled", "Shape", "source_grid"]

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]
Centres = Literal["half-pixel", "aligned", "spacing"]
# A step of a grid that differs by less is the same (affines are single precision in places).
_SAME: Final = 1e-6


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

    `step`: voxels of the old grid between two of the new one, along each axis.
    """

    of: Shape
    to: Shape
    centres: Centres
    step: tuple[float, float, float]

    def looked_at(self, axis: int) -> NDArray[np.float64]:
        """Return where each voxel of the new grid looks in the old one, in its voxels."""
        places = np.arange(self.to[axis], dtype=np.float64)
        if self.centres == "half-pixel":
            return (places + 0.5) * self.step[axis] - 0.5
        return places * self.step[axis]

    def nearest_new(self, axis: int) -> NDArray[np.intp]:
        """Return the voxel of the new grid that is nearest to each of the old one."""
        if self.centres == "half-pixel":
            return nearest_exact_indices(self.to[axis], self.of[axis])
        places = np.arange(self.of[axis], dtype=np.float64) / self.step[axis]
        # Halfway between two, the one before: as floor(x + 0.5) would, less rounding noise.
        near = np.ceil(places - 0.5 - _SAME).astype(np.intp)
        return np.clip(near, 0, self.to[axis] - 1)


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
        sides: list[int] = []
        steps: list[float] = []
        for axis in range(3):
            have, of_mm = self.shape[axis], self.spacing_mm[axis]
            if shape is not None:
                count = shape[axis]
            elif spacing_mm is None:
                raise ValueError("neither a shape nor a spacing is wanted")
            else:
                count = max(1, round(have * of_mm / spacing_mm[axis]))
            if centres == "half-pixel":
                step = have / count
            elif centres == "aligned":
                step = (have - 1) / (count - 1) if count > 1 else 1.0
            else:
                step = (spacing_mm[axis] if spacing_mm else of_mm) / of_mm
            sides.append(count)
            steps.append(step)
        change = Resampled(
            self.shape,
            (sides[0], sides[1], sides[2]),
            centres,
            (steps[0], steps[1], steps[2]),
        )
        of_mm = self.spacing_mm
        return replace(
            self,
            shape=change.to,
            spacing_mm=(of_mm[0] * steps[0], of_mm[1] * steps[1], of_mm[2] * steps[2]),
            changes=(*self.changes, change),
        )


def source_grid(role: str, source: SourceVolume) -> Grid:
    """Return the grid of a volume as it was sent: [k, j, i]."""
    across = np.sqrt((source.affine_lps[:3, :3] ** 2).sum(axis=0))
    return Grid(role, source.shape, (float(across[2]), float(across[1]), float(across[0])))

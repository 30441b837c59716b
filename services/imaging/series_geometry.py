"""What the geometry gate asks for and what it proves: a model's limits, a series' geometry."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.imaging.volume import plane_corners


@dataclass(frozen=True, slots=True)
class GeometryLimits:
    """What a model accepts of a series' geometry.

    Attributes:
        model: the model's name, for sentences.
        min_slices, max_slices: number of slices; None has no upper bound.
        min_spacing_mm, max_spacing_mm: for all three axes.
        min_extent_mm: for the shortest side of the field of view.
        accepts_gantry_tilt: slices may be sheared; the affine then is.
        accepts_uneven_spacing: slices may be unevenly spaced; the affine then has the mean step
            and plane positions are to be taken from `SeriesGeometry.planes`. `load_volume`
            brings both kinds onto a regular grid.
    """

    model: str
    min_slices: int = 1
    max_slices: int | None = None
    min_spacing_mm: float = 0.0
    max_spacing_mm: float = math.inf
    min_extent_mm: float = 0.0
    accepts_gantry_tilt: bool = False
    accepts_uneven_spacing: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice: the image at index k.

    Attributes:
        sop_instance_uid: its instance.
        position_mm: ImagePositionPatient, the centre of voxel (0, 0), LPS.
        distance_mm: the position's projection on the normal of the planes.
        frame: the number of the frame (or of the mosaic's tile) in its instance, from 1; None
            where the instance is one plane.
    """

    sop_instance_uid: str
    position_mm: tuple[float, float, float]
    distance_mm: float
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class SeriesGeometry:
    """A series proven to be one grid.

    Attributes:
        planes: in slice order (rising `distance_mm`).
        row_cosines: direction of increasing column index i (ImageOrientationPatient 1-3).
        column_cosines: direction of increasing row index j (ImageOrientationPatient 4-6).
        pixel_spacing_mm: (between rows, between columns), as PixelSpacing.
        slice_spacing_mm: the true distance of neighbouring planes, from their positions.
        affine: float64 4x4, (i, j, k, 1) -> LPS mm.
        evenly_spaced: False only where limits accept uneven spacing.
        tilted: True only where limits accept a gantry tilt; the affine is sheared then.
    """

    planes: tuple[Plane, ...]
    row_cosines: tuple[float, float, float]
    column_cosines: tuple[float, float, float]
    pixel_spacing_mm: tuple[float, float]
    slice_spacing_mm: float
    rows: int
    columns: int
    affine: NDArray[np.float64]
    frame_of_reference_uid: str
    evenly_spaced: bool = True
    tilted: bool = False

    @property
    def regular(self) -> bool:
        """Whether the planes themselves are a grid with three axes at right angles."""
        return self.evenly_spaced and not self.tilted

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns): the shape of the volume's array."""
        return len(self.planes), self.rows, self.columns

    def corners(self) -> NDArray[np.float64]:
        """Centres of the corner voxels of every plane, from the planes' own positions.

        float64 [k, 4, 3] in LPS mm, ordered as by `plane_corners`.
        """
        corners = plane_corners(self.affine, (1, self.rows, self.columns))[0] - self.affine[:3, 3]
        positions = np.array([plane.position_mm for plane in self.planes])
        return positions[:, None, :] + corners[None, :, :]

"""The geometry gate: from kept headers to one regular grid in patient space, or one refusal.

The questions in their order; the first that fails is the reason.

| question | reason |
|---|---|
| are these scouts? | localizer |
| is every frame told as an image of its own? | enhanced_multiframe |
| is every slice of a mosaic? | mosaic |
| grey values? | colour_image |
| values by slope and intercept? | modality_lut |
| can the pixels be decoded here? | transfer_syntax_unreadable |
| does every image tell its place? | missing_geometry |
| more than one image? | single_slice |
| one coordinate system? | missing_frame_of_reference, mixed_frame_of_reference |
| parallel planes, not turned? | mixed_orientations |
| one matrix, one pixel size? | mixed_matrix, mixed_pixel_spacing |
| one image at each position? | several_volumes, duplicate_position |
| stacked along the normal? | gantry_tilt (unless accepted) |
| on a straight line? | shifted_planes |
| at even distances? | missing_slice, uneven_spacing (unless accepted) |
| within the model's limits? | too_few_slices, too_many_slices, spacing_out_of_range, \
extent_too_small |

Frames and tiles are opened before (`opening`), and volumes told apart (`splitting`); an object that
was not opened cannot be judged here.

A scout is a scout before it is anything else, also as one image or as three that cross. A tilt
comes before the spacing, because no missing slice explains it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.imaging.errors import ImagingError
from services.imaging.frames import frame_of
from services.imaging.header_checks import (
    check_colour,
    check_localizer,
    check_modality_lut,
    check_mosaic,
    check_multiframe,
    check_transfer_syntax,
    is_localizer,
    place_images,
)
from services.imaging.stack import (
    Stack,
    build_stack,
    check_frame_of_reference,
    check_matrix,
    check_orientations,
    check_pixel_spacing,
    check_positions,
    check_spacing,
    check_straightness,
    check_tilt,
)
from services.imaging.volume import plane_corners

__all__ = [
    "GeometryLimits",
    "Plane",
    "SeriesGeometry",
    "check_limits",
    "examine_series",
    "is_localizer",
]

_HEADER_CHECKS = (
    check_localizer,
    check_multiframe,
    check_mosaic,
    check_colour,
    check_modality_lut,
    check_transfer_syntax,
)
_IMAGE_CHECKS = (check_frame_of_reference, check_orientations, check_matrix, check_pixel_spacing)


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


def examine_series(
    headers: Sequence[InstanceHeader], limits: GeometryLimits
) -> SeriesGeometry | Refusal:
    """Proves that a series is one regular grid that the model accepts, or says why it is not.

    Works on headers alone, so that a series can be judged without opening a file. The order of
    the headers does not matter. The order of the questions does: the first that fails is the
    reason, so that a person reads the most telling one.

    Raises:
        ImagingError: there are no headers.
    """
    if not headers:
        raise ImagingError("A series without images has no geometry.")
    for check_header in _HEADER_CHECKS:
        refusal = check_header(headers)
        if refusal is not None:
            return refusal
    images = place_images(headers)
    if isinstance(images, Refusal):
        return images
    if len(images) == 1:
        return Refusal("single_slice", {"slices": 1, "minimum": max(2, limits.min_slices)})
    for check_image in _IMAGE_CHECKS:
        refusal = check_image(images)
        if refusal is not None:
            return refusal
    return _examine_stack(build_stack(images), limits)


def _examine_stack(stack: Stack, limits: GeometryLimits) -> SeriesGeometry | Refusal:
    refusal = check_positions(stack)
    if refusal is not None:
        return refusal
    tilt = check_tilt(stack)
    if tilt is not None and not limits.accepts_gantry_tilt:
        return tilt
    refusal = check_straightness(stack)
    if refusal is not None:
        return refusal
    spacing = check_spacing(stack)
    if spacing is not None and not (
        spacing.reason == "uneven_spacing" and limits.accepts_uneven_spacing
    ):
        return spacing
    geometry = _geometry(stack, evenly_spaced=spacing is None, tilted=tilt is not None)
    return check_limits(geometry, limits) or geometry


def check_limits(geometry: SeriesGeometry, limits: GeometryLimits) -> Refusal | None:
    """Reasons ``too_few_slices``, ``too_many_slices``, ``spacing_out_of_range`` and
    ``extent_too_small``: a sound volume, but not one for this model.
    """
    slices = len(geometry.planes)
    if slices < limits.min_slices:
        values = {"model": limits.model, "slices": slices, "minimum": limits.min_slices}
        return Refusal("too_few_slices", values)
    if limits.max_slices is not None and slices > limits.max_slices:
        values = {"model": limits.model, "slices": slices, "maximum": limits.max_slices}
        return Refusal("too_many_slices", values)
    between_rows, between_columns = geometry.pixel_spacing_mm
    voxel = (between_columns, between_rows, geometry.slice_spacing_mm)
    for spacing in (max(voxel), min(voxel)):
        if not limits.min_spacing_mm <= spacing <= limits.max_spacing_mm:
            return Refusal(
                "spacing_out_of_range",
                {
                    "model": limits.model,
                    "spacing_mm": round(spacing, 3),
                    "minimum_mm": limits.min_spacing_mm,
                    "maximum_mm": limits.max_spacing_mm,
                },
            )
    extent = min(
        count * size
        for count, size in zip((geometry.columns, geometry.rows, slices), voxel, strict=True)
    )
    if extent < limits.min_extent_mm:
        values = {
            "model": limits.model,
            "extent_mm": round(extent, 1),
            "minimum_mm": limits.min_extent_mm,
        }
        return Refusal("extent_too_small", values)
    return None


def _geometry(stack: Stack, *, evenly_spaced: bool, tilted: bool) -> SeriesGeometry:
    first = stack.images[0]
    between_rows, between_columns = first.pixel_spacing_mm
    affine = np.eye(4)
    # PS3.3 C.7.6.2.1.1: i runs along the row, by the distance between columns.
    affine[:3, 0] = first.row_cosines * between_columns
    affine[:3, 1] = first.column_cosines * between_rows
    affine[:3, 2] = stack.step
    affine[:3, 3] = first.position
    affine.flags.writeable = False
    return SeriesGeometry(
        planes=tuple(
            Plane(
                image.header.sop_instance_uid,
                _triple(image.position),
                float(distance),
                frame_of(image.header),
            )
            for image, distance in zip(stack.images, stack.distances, strict=True)
        ),
        row_cosines=_triple(first.row_cosines),
        column_cosines=_triple(first.column_cosines),
        pixel_spacing_mm=first.pixel_spacing_mm,
        slice_spacing_mm=float(np.diff(stack.distances).mean()),
        rows=first.rows,
        columns=first.columns,
        affine=affine,
        frame_of_reference_uid=first.header.text("FrameOfReferenceUID") or "",
        evenly_spaced=evenly_spaced,
        tilted=tilted,
    )


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z

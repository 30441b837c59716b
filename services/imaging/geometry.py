"""The geometry gate: from kept headers to one regular grid in patient space, or one refusal.

The questions in their order; the first that fails is the reason.

| question | reason |
|---|---|
| are these scouts? | localizer |
| is every frame told as an image of its own? | enhanced_multiframe |
| is every slice of a mosaic? | mosaic |
| grey values? | colour_image |
| values by slope and intercept? | modality_lut |
| do rows run as they say? | reversed_rows |
| can the pixels be decoded here? | transfer_syntax_unreadable |
| does every image tell its place? | missing_geometry |
| more than one image? | single_slice |
| one coordinate system? | missing_frame_of_reference, mixed_frame_of_reference |
| parallel planes, not turned? | mixed_orientations |
| one matrix, one pixel size? | mixed_matrix, mixed_pixel_spacing |
| one image at each position? | several_volumes, incomplete_volume, duplicate_position |
| one echo, one component, one weighting? | several_volumes |
| stacked along the normal? | gantry_tilt (unless accepted) |
| on a straight line? | shifted_planes |
| at even distances? | missing_slice, uneven_spacing (unless accepted) |
| within the model's limits? | too_few_slices, too_many_slices, spacing_out_of_range, \
extent_too_small |
| if resampled, a grid of reasonable size? | uneven_spacing, gantry_tilt |

Frames and tiles are opened before (`opening`), and volumes told apart (`splitting`); an object that
was not opened cannot be judged here.

A scout is a scout before it is anything else, also as one image or as three that cross. A tilt
comes before the spacing, because no missing slice explains it. Where uneven spacing is accepted,
two ranges of slices are uneven and not incomplete (`stack.holds_two_ranges`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.sentences import Value, range_in_words
from services.imaging.errors import ImagingError
from services.imaging.frames import frame_of
from services.imaging.header_checks import (
    check_colour,
    check_localizer,
    check_modality_lut,
    check_mosaic,
    check_multiframe,
    check_reversed_rows,
    check_transfer_syntax,
    is_localizer,
    place_images,
)
from services.imaging.kinds import odd_ones
from services.imaging.regular_grid import grid_voxels
from services.imaging.series_geometry import GeometryLimits, Plane, SeriesGeometry
from services.imaging.stack import (
    WIDEST_TILT_DEG,
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
    holds_two_ranges,
    tilt_deg,
    uneven_spacing,
)
from services.imaging.telling import disagreement

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
    check_reversed_rows,
    check_transfer_syntax,
)
# A grid with more than this many times the slices' voxels holds mostly what nobody measured. Two
# tilted ranges of a head that overlap where they meet, a millimetre apart, make nearly six times.
_MOST_GRID_VOXELS = 8
_IMAGE_CHECKS = (check_frame_of_reference, check_orientations, check_matrix, check_pixel_spacing)


def examine_series(
    headers: Sequence[InstanceHeader], limits: GeometryLimits
) -> SeriesGeometry | Refusal:
    """Proves that a series is one regular grid that the model accepts, or says why not.

    Works on headers alone, so that a series can be judged without opening a file. The order of
    the headers does not matter. The order of the checks does: the first that fails is the reason,
    so that a person reads the most telling reason.

    Args:
        headers: of the planes of the series.
        limits: what the model accepts.

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
    refusal = check_positions(stack) or _check_contrast(stack)
    if refusal is not None:
        return refusal
    tilt = check_tilt(stack)
    if tilt is not None and not (limits.accepts_gantry_tilt and tilt_deg(stack) <= WIDEST_TILT_DEG):
        return tilt
    refusal = check_straightness(stack)
    if refusal is not None:
        return refusal
    spacing = check_spacing(stack)
    if spacing is not None and not (
        limits.accepts_uneven_spacing
        and (spacing.reason == "uneven_spacing" or holds_two_ranges(stack))
    ):
        return spacing
    geometry = _geometry(stack, evenly_spaced=spacing is None, tilted=tilt is not None)
    return check_limits(geometry, limits) or _check_grid(geometry, stack) or geometry


def _check_contrast(stack: Stack) -> Refusal | None:
    """Reason ``several_volumes``: images of one position each, but not of one volume."""
    found = disagreement(stack.images)
    if found is None:
        return None
    attribute, kinds = found
    headers = [image.header for image in stack.images]
    of_frames = [
        (header, kind) for header, kind in zip(headers, kinds, strict=True) if kind is not None
    ]
    odd = odd_ones([header for header, _ in of_frames], [kind for _, kind in of_frames])
    volumes = len({kind for _, kind in of_frames})
    values: dict[str, Value] = {"volumes": volumes, "attribute": attribute, "odd": odd}
    return Refusal("several_volumes", values)


def _check_grid(geometry: SeriesGeometry, stack: Stack) -> Refusal | None:
    """Reasons ``uneven_spacing`` and ``gantry_tilt``, of slices that no grid should hold."""
    if geometry.regular:
        return None
    # A number that overflowed is too many, too.
    if grid_voxels(geometry) <= _MOST_GRID_VOXELS * math.prod(geometry.shape):
        return None
    return check_tilt(stack) if geometry.evenly_spaced else uneven_spacing(stack)


def check_limits(geometry: SeriesGeometry, limits: GeometryLimits) -> Refusal | None:
    """Reasons ``too_few_slices``, ``too_many_slices``, ``spacing_out_of_range`` and
    ``extent_too_small``: a sound volume, but none for this model.
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
    # Over a gap nothing was measured, however close the other slices are.
    coarsest, finest = max(*voxel, _widest_gap_mm(geometry)), min(voxel)
    if not coarsest <= limits.max_spacing_mm:
        return _out_of_range(limits, coarsest)
    if not finest >= limits.min_spacing_mm:
        return _out_of_range(limits, finest)
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


def _out_of_range(limits: GeometryLimits, spacing_mm: float) -> Refusal:
    least, most = limits.min_spacing_mm, limits.max_spacing_mm
    values: dict[str, Value] = {
        "model": limits.model,
        "spacing_mm": round(spacing_mm, 3),
        "minimum_mm": least,
        "maximum_mm": None if math.isinf(most) else most,
        "accepted": range_in_words(least, most, "mm"),
    }
    return Refusal("spacing_out_of_range", values)


def _widest_gap_mm(geometry: SeriesGeometry) -> float:
    if geometry.evenly_spaced:
        return geometry.slice_spacing_mm
    return float(np.diff([plane.distance_mm for plane in geometry.planes]).max())


def _geometry(stack: Stack, *, evenly_spaced: bool, tilted: bool) -> SeriesGeometry:
    first = stack.images[0]
    between_rows, between_columns = first.pixel_spacing_mm
    affine = np.eye(4)
    # PS3.3 C.7.6.2.1.1: i runs along the row, by the distance between columns.
    affine[:3, 0] = stack.row_cosines * between_columns
    affine[:3, 1] = stack.column_cosines * between_rows
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
        row_cosines=_triple(stack.row_cosines),
        column_cosines=_triple(stack.column_cosines),
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

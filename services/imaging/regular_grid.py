"""Tilted and unevenly spaced slices on a regular grid, and labels back on every slice.

The grid has the slices' own rows and columns and their normal as axes. Each source slice is taken
from its true position: within its plane it is shifted by what the tilt moved it (bilinear), along
the normal neighbouring slices are interpolated (linear). Labels return by nearest neighbour: a
voxel of a source slice gets the label of the grid voxel that its centre lies closest to, so that
labels lie on the source's own pixels and positions are never rounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.imaging.errors import ImagingError
from services.imaging.series_geometry import SeriesGeometry
from services.imaging.volume import Volume

# Planes of the grid are as far apart as the closest slices, so that no two slices share one; but
# no closer than this share of the usual distance: one displaced slice must not multiply memory.
_FINEST_SHARE = 0.25
# Fractions of a pixel (or of a step between planes) below this are rounding of decimal strings.
_WHOLE = 1e-3


@dataclass(frozen=True, slots=True)
class RegularGrid:
    """Where the slices of a series lie on a regular grid.

    Attributes:
        shape: (planes, rows, columns) of the grid.
        affine: float64 4x4, (i, j, k, 1) of the grid -> LPS mm; three axes at right angles.
        places: float64 [slice, 3]: k, j and i of each source slice's first voxel on the grid.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    places: NDArray[np.float64]


def regular_grid(geometry: SeriesGeometry) -> RegularGrid:
    """The regular grid that holds every voxel of the slices."""
    row, column, normal = _axes(geometry)
    between_rows, between_columns = geometry.pixel_spacing_mm
    step, places = _places(geometry)
    lowest = np.floor(places.min(axis=0) + _WHOLE)
    places -= lowest
    planes, more_rows, more_columns = np.ceil(places.max(axis=0) - _WHOLE).astype(int).tolist()
    affine = np.eye(4)
    affine[:3, 0] = row * between_columns
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = normal * step
    first = np.array(geometry.planes[0].position_mm)
    affine[:3, 3] = first + affine[:3, 1] * lowest[1] + affine[:3, 0] * lowest[2]
    shape = (planes + 1, geometry.rows + more_rows, geometry.columns + more_columns)
    return RegularGrid(shape, affine, places)


def grid_voxels(geometry: SeriesGeometry) -> float:
    """The number of voxels of `regular_grid`, to a fraction of a plane; the grid is not made."""
    _, places = _places(geometry)
    least = np.array([1, geometry.rows, geometry.columns])
    return math.prod((np.ptp(places, axis=0) + least).tolist())


def regular_volume(volume: Volume, geometry: SeriesGeometry) -> Volume:
    """The volume of tilted or unevenly spaced slices, resampled onto `regular_grid`.

    Outside of the slices, the grid has the lowest value that was measured; a voxel of the grid that
    has a part of a voxel that was not measured (padding) was not measured either. Costs one pass
    over the slices and one over the grid.

    Args:
        volume: as read: plane k is slice k of `geometry`.
        geometry: of the slices.

    Returns:
        float32 values; without instances, because its planes are no images.
    """
    grid = regular_grid(geometry)
    array = np.empty(grid.shape, np.float32)
    along = grid.places[:, 0]
    slices = _Slices(volume, grid)
    for k, plane in enumerate(array):
        after = int(np.searchsorted(along, k - _WHOLE))
        if after == 0 or after == len(along):
            slices.write(min(after, len(along) - 1), plane)
            continue
        share = (k - along[after - 1]) / (along[after] - along[after - 1])
        slices.write(after, plane)
        if share < 1 - _WHOLE:
            plane *= np.float32(share)
            plane += np.float32(1 - share) * slices.shifted(after - 1)
    padding = None if volume.padding is None else np.isnan(array)
    return Volume(array, grid.affine, padding=padding)


def labels_on_source(labels: NDArray[np.uint8], geometry: SeriesGeometry) -> NDArray[np.uint8]:
    """Labels of the network's grid on the source slices' own pixels.

    Args:
        labels: uint8 [k, j, i] on the grid of the volume that `load_volume` gave.

    Returns:
        uint8 [slice, row, column] of the source; the same array where the source is regular.

    Raises:
        ImagingError: the labels are not of that grid.
    """
    if geometry.regular:
        _expect_shape(labels, geometry.shape)
        return labels
    grid = regular_grid(geometry)
    _expect_shape(labels, grid.shape)
    on_source = np.empty(geometry.shape, np.uint8)
    for (k, j, i), plane in zip(np.rint(grid.places).astype(int).tolist(), on_source, strict=True):
        plane[...] = labels[k, j : j + geometry.rows, i : i + geometry.columns]
    return on_source


class _Slices:
    """Source slices shifted to their place on the grid; the last two are kept."""

    def __init__(self, volume: Volume, grid: RegularGrid) -> None:
        self._volume, self._grid = volume, grid
        measured = volume.array if volume.padding is None else volume.array[~volume.padding]
        ends = np.array([measured.min(), measured.max()])
        values = np.empty(2, np.float32)
        volume.rescale.write(ends, values)  # a falling slope turns them round
        self._outside = float(values.min())
        self._kept: dict[int, NDArray[np.float32]] = {}

    def write(self, number: int, out: NDArray[np.float32]) -> None:
        """Writes slice `number` to a plane of the grid."""
        out[...] = self.shifted(number)

    def shifted(self, number: int) -> NDArray[np.float32]:
        """float32 [j, i] of the grid: slice `number` where it lies within its plane."""
        if number not in self._kept:
            while len(self._kept) > 1:
                del self._kept[min(self._kept)]
            self._kept[number] = self._shift(number)
        return self._kept[number]

    def _shift(self, number: int) -> NDArray[np.float32]:
        _, rows, columns = self._grid.shape
        _, down, right = self._grid.places[number].tolist()
        first_row, first_column = math.floor(down + _WHOLE), math.floor(right + _WHOLE)
        stored = self._volume.array[number]
        # One row and one column more on both sides, into which fractions reach.
        padded = np.full((rows + 1, columns + 1), self._outside, np.float32)
        inner = padded[
            first_row + 1 : first_row + 1 + stored.shape[0],
            first_column + 1 : first_column + 1 + stored.shape[1],
        ]
        self._volume.write_plane(number, inner)
        moved = _interpolated(padded, down - first_row, axis=0)
        return _interpolated(moved, right - first_column, axis=1)


def _interpolated(padded: NDArray[np.float32], fraction: float, axis: int) -> NDArray[np.float32]:
    """Moves the content by `fraction` of a pixel; one pixel shorter along `axis`."""
    after = np.moveaxis(np.moveaxis(padded, axis, 0)[1:], 0, axis)
    if fraction < _WHOLE:
        return after
    before = np.moveaxis(np.moveaxis(padded, axis, 0)[:-1], 0, axis)
    moved = np.multiply(after, 1 - fraction, dtype=np.float32)
    moved += np.multiply(before, fraction, dtype=np.float32)
    return moved


def _axes(
    geometry: SeriesGeometry,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along rows, along columns, and across the planes."""
    row, column = np.array(geometry.row_cosines), np.array(geometry.column_cosines)
    normal = np.cross(row, column)
    return row, column, normal / np.linalg.norm(normal)


def _places(geometry: SeriesGeometry) -> tuple[float, NDArray[np.float64]]:
    """The step between planes in mm; k, j and i of each slice's first voxel from the first one's.

    float64 [slice, 3].
    """
    row, column, _ = _axes(geometry)
    between_rows, between_columns = geometry.pixel_spacing_mm
    distances = np.array([plane.distance_mm for plane in geometry.planes])
    positions = np.array([plane.position_mm for plane in geometry.planes])
    from_first = positions - positions[0]
    step = _step_mm(geometry, np.diff(distances))
    places = [
        (distances - distances[0]) / step,
        from_first @ column / between_rows,
        from_first @ row / between_columns,
    ]
    return step, np.stack(places, axis=1)


def _step_mm(geometry: SeriesGeometry, gaps: NDArray[np.float64]) -> float:
    if geometry.evenly_spaced:
        return geometry.slice_spacing_mm
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    return max(float(gaps.min()), _FINEST_SHARE * usual)


def _expect_shape(labels: NDArray[np.uint8], shape: tuple[int, int, int]) -> None:
    if labels.shape != shape:
        raise ImagingError(f"The labels have shape {labels.shape}; the volume has {shape}.")

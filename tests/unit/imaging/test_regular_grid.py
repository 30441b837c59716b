"""Tilted and uneven slices on a regular grid: true places there, exact labels back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.imaging import (
    GeometryLimits,
    ImagingError,
    SeriesGeometry,
    Volume,
    examine_series,
    labels_on_source,
    read_volume,
)
from services.imaging.regular_grid import regular_grid
from tests.builders import broken_series
from tests.builders.series import edit, headers_of, small_volume, sound_series

ANY = GeometryLimits("a model", accepts_gantry_tilt=True, accepts_uneven_spacing=True)


def tilted_and_uneven(folder: Path) -> list[Path]:
    """Both at once, as the shared CT of a head."""
    files = broken_series.uneven_spacing(folder)
    angle = np.radians(15)
    for file in files:
        edit(file, ImageOrientationPatient=[1, 0, 0, 0, np.cos(angle), -np.sin(angle)])
    return files


SERIES = [broken_series.gantry_tilt, broken_series.uneven_spacing, tilted_and_uneven]


def read(files: list[Path]) -> tuple[SeriesGeometry, Volume, NDArray[np.float64]]:
    """The geometry, the volume on the grid, and the source voxels' places [k, j, i, 3] in mm."""
    headers = headers_of(files)
    geometry = examine_series(headers, ANY)
    assert isinstance(geometry, SeriesGeometry), geometry
    file_of = {h.sop_instance_uid: file for h, file in zip(headers, files, strict=True)}
    volume = read_volume(geometry, headers, lambda header: file_of[header.sop_instance_uid])
    assert isinstance(volume, Volume), volume
    j, i = np.indices((geometry.rows, geometry.columns))[..., None]
    between_rows, between_columns = geometry.pixel_spacing_mm
    in_plane = (
        i * np.array(geometry.row_cosines) * between_columns
        + j * np.array(geometry.column_cosines) * between_rows
    )
    positions = np.array([plane.position_mm for plane in geometry.planes])
    return geometry, volume, positions[:, None, None, :] + in_plane


def on_grid(volume: Volume, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """(i, j, k) of places in the patient, from the volume's affine alone."""
    homogeneous = np.concatenate([places, np.ones((*places.shape[:-1], 1))], axis=-1)
    return (homogeneous @ np.linalg.inv(volume.affine).T)[..., :3]


@pytest.mark.parametrize("builder", SERIES)
def test_grid_has_right_angles_and_even_steps_and_holds_every_slice(
    builder: broken_series.Builder, tmp_path: Path
) -> None:
    _, volume, places = read(builder(tmp_path))
    axes = volume.affine[:3, :3] / volume.voxel_mm
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    indices = on_grid(volume, places)
    assert indices.min() > -1e-6
    assert (indices.max(axis=(0, 1, 2)) < np.array(volume.array.shape)[::-1] - 1 + 1e-6).all()


@pytest.mark.parametrize("builder", SERIES)
def test_labels_return_to_the_nearest_of_every_source_voxel(
    builder: broken_series.Builder, tmp_path: Path
) -> None:
    geometry, volume, places = read(builder(tmp_path))
    labels = np.random.default_rng(7).integers(0, 255, volume.array.shape).astype(np.uint8)
    i, j, k = np.moveaxis(np.rint(on_grid(volume, places)).astype(int), -1, 0)
    np.testing.assert_array_equal(labels_on_source(labels, geometry), labels[k, j, i])


def test_every_slice_of_an_uneven_series_has_a_plane_of_its_own(tmp_path: Path) -> None:
    geometry, volume, _ = read(broken_series.uneven_spacing(tmp_path))
    labels = np.arange(volume.array.shape[0], dtype=np.uint8)[:, None, None]
    labels = np.broadcast_to(labels, volume.array.shape).copy()
    returned = labels_on_source(labels, geometry)
    assert len({int(plane[0, 0]) for plane in returned}) == len(geometry.planes)


def test_tilted_slices_are_shifted_by_what_the_tilt_moved_them(tmp_path: Path) -> None:
    """A value that grows evenly through the patient does so on the grid, within the slices."""
    files = broken_series.gantry_tilt(tmp_path)
    geometry, _, places = read(files)
    slope = np.array([3.0, 11.0, 5.0])
    order = {plane.sop_instance_uid: k for k, plane in enumerate(geometry.planes)}
    truth = places @ slope + 2000
    for file, header in zip(files, headers_of(files), strict=True):
        values = truth[order[header.sop_instance_uid]]
        edit(file, PixelData=np.rint(values).astype("<u2").tobytes())
    _, volume, _ = read(files)
    indices = np.argwhere(np.ones(volume.array.shape, bool))[:, ::-1]
    grid_places = np.c_[indices, np.ones(len(indices))] @ volume.affine.T
    expected = (grid_places[:, :3] @ slope + 2000).reshape(volume.array.shape)
    # Voxels between four true ones of a slice; at the edges the outside reaches in.
    grid = regular_grid(geometry)
    inside = np.zeros(volume.array.shape, bool)
    for k, (_, down, right) in enumerate(grid.places):
        rows = slice(int(np.ceil(down)) + 1, int(down) + geometry.rows - 1)
        columns = slice(int(np.ceil(right)) + 1, int(right) + geometry.columns - 1)
        inside[k, rows, columns] = True
    np.testing.assert_allclose(volume.array[inside], expected[inside], atol=1.0)


def test_a_slice_without_shift_and_with_a_plane_of_its_own_is_not_changed(tmp_path: Path) -> None:
    files = broken_series.uneven_spacing(tmp_path)
    geometry, volume, places = read(files)
    regular = read(sound_series(tmp_path / "even"))[1].values()
    k = np.rint(on_grid(volume, places)[:, 0, 0, 2]).astype(int)
    on_plane = np.abs(on_grid(volume, places)[:, 0, 0, 2] - k) < 1e-6
    assert on_plane.sum() >= 4
    np.testing.assert_array_equal(volume.values()[k[on_plane]], regular[on_plane])
    assert geometry.shape == regular.shape


def test_outside_of_the_slices_is_the_lowest_value(tmp_path: Path) -> None:
    files = broken_series.gantry_tilt(tmp_path)
    for file in files:
        edit(file, RescaleSlope=-1, RescaleIntercept=100)
    _, volume, places = read(files)
    indices = np.rint(on_grid(volume, places)).astype(int)
    occupied = np.zeros(volume.array.shape, bool)
    occupied[indices[..., 2], indices[..., 1], indices[..., 0]] = True
    # Into the row beside a slice, its edge may reach.
    beside = occupied | np.roll(occupied, 1, axis=1) | np.roll(occupied, -1, axis=1)
    assert not beside.all()
    lowest = 100 - small_volume().array.max()
    np.testing.assert_allclose(volume.array[~beside], lowest, rtol=1e-6)


def test_a_regular_series_is_not_touched(tmp_path: Path) -> None:
    geometry, volume, _ = read(sound_series(tmp_path))
    assert volume.array.dtype == np.int16
    assert len(volume.instances) == 7
    labels = np.zeros(volume.array.shape, np.uint8)
    assert labels_on_source(labels, geometry) is labels


@pytest.mark.parametrize("builder", [sound_series, *SERIES])
def test_labels_of_another_grid_are_the_callers_mistake(
    builder: broken_series.Builder, tmp_path: Path
) -> None:
    geometry, volume, _ = read(builder(tmp_path))
    k, j, i = volume.array.shape
    with pytest.raises(ImagingError):
        labels_on_source(np.zeros((k + 1, j, i), np.uint8), geometry)

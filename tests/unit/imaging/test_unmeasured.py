"""Segments that reach what was not measured are found, and no others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from services.imaging import ImagingError, Volume, read_series, segments_at_unmeasured

SHAPE = (6, 24, 24)


def round_field(shape: tuple[int, int, int] = SHAPE) -> NDArray[np.bool_]:
    """Padding around a circle in every slice."""
    middle = (shape[1] - 1) / 2
    y, x = np.mgrid[: shape[1], : shape[2]]
    return np.broadcast_to((x - middle) ** 2 + (y - middle) ** 2 > middle**2, shape).copy()


def blob(j: int, i: int, number: int = 1) -> NDArray[np.uint8]:
    """A cube of two voxels that begins at (2, j, i)."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, j : j + 2, i : i + 2] = number
    return labels


def test_without_padding_no_segment_reaches_it() -> None:
    assert segments_at_unmeasured(blob(0, 0), None) == ()


def test_without_a_segment_none_does() -> None:
    assert segments_at_unmeasured(np.zeros(SHAPE, np.uint8), round_field()) == ()


def test_a_segment_in_the_middle_reaches_nothing_though_another_does() -> None:
    labels = np.maximum(blob(11, 11, 1), blob(3, 3, 3))
    assert segments_at_unmeasured(labels, round_field()) == (3,)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("before", [True, False])
def test_padding_on_every_side_counts(axis: int, before: bool) -> None:
    padding = np.zeros((9, 9, 9), np.bool_)
    place: list[slice] = [slice(None)] * 3
    place[axis] = slice(0, 3) if before else slice(6, 9)
    padding[tuple(place)] = True
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = 1
    assert segments_at_unmeasured(labels, padding) == ()
    labels[3:6, 3:6, 3:6] = 1
    assert segments_at_unmeasured(labels, padding) == (1,)


def test_a_segment_within_padding_reaches_it() -> None:
    assert segments_at_unmeasured(blob(1, 1), round_field()) == (1,)


def test_a_single_voxel_of_the_padding_value_within_the_body_is_no_edge() -> None:
    padding = np.zeros(SHAPE, np.bool_)
    padding[3, 11, 13] = True
    assert segments_at_unmeasured(blob(11, 11), padding) == ()


def test_the_edge_of_the_matrix_alone_is_not_told_here() -> None:
    """It is told as an edge of the images, with its direction."""
    padding = np.zeros(SHAPE, np.bool_)
    padding[0, 20:, 20:] = True
    assert segments_at_unmeasured(blob(0, 11), padding) == ()


def test_padding_of_one_voxel_along_the_edge_is_an_edge() -> None:
    padding = np.zeros(SHAPE, np.bool_)
    padding[:, 0] = True
    assert segments_at_unmeasured(blob(1, 11), padding) == (1,)


def test_another_grid_is_an_error() -> None:
    with pytest.raises(ImagingError, match="do not match"):
        segments_at_unmeasured(blob(0, 0), round_field((6, 20, 20)))


def test_a_real_scan_with_a_round_field_of_view_is_told(scan: Any, tmp_path: Path) -> None:
    """The head of a real scan, with the padding of a scanner that declares it."""
    files: list[Path] = []
    for file in sorted(scan("philips-mr-mprage-classic").rglob("*.dcm")):
        data: Any = pydicom.dcmread(file)
        pixels = data.pixel_array.astype("<i2")
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        pixels[(x - 127.5) ** 2 + (y - 127.5) ** 2 > 127.5**2] = -2000
        data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 15, 1
        data.PixelData = pixels.tobytes()
        data.add_new(0x00280120, "SS", -2000)
        files.append(tmp_path / file.name)
        data.save_as(files[-1])
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    assert volume.padding is not None
    slices, rows, columns = volume.array.shape
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[slices // 2, rows // 2 - 20 : rows // 2 + 20, columns // 2 - 20 : columns // 2 + 20] = 1
    assert segments_at_unmeasured(labels, volume.padding) == ()
    labels[slices // 2, rows // 2, 1 : columns // 2] = 2
    assert segments_at_unmeasured(labels, volume.padding) == (2,)

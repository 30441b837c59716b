"""United Imaging's images that tile all slices are opened like any mosaic, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from services.common.fates import Refusal
from services.imaging import Volume, open_images, read_series, write_mr_series
from services.imaging.header_files import read_headers
from tests.builders.series import affine_of, attributes_of, small_volume

# Five slices of 8 x 6 pixels in two rows of three tiles.
SLICES, ROWS, COLUMNS = 5, 8, 6
KINDS = ("ORIGINAL", "PRIMARY", "M", "VFRAME")


def sound_vframe(folder: Path, count: str = "5") -> tuple[Path, Volume]:
    """One image with all slices as tiles, and the volume that it holds."""
    volume = small_volume((SLICES, ROWS, COLUMNS), affine_of())
    matrix = np.zeros((1, 2 * ROWS, 3 * COLUMNS), np.float32)
    for k, plane in enumerate(volume.array):
        row, column = k // 3 * ROWS, k % 3 * COLUMNS
        matrix[0, row : row + ROWS, column : column + COLUMNS] = plane
    attributes = attributes_of(image_type=KINDS)
    (file,) = write_mr_series(Volume(matrix, volume.affine), folder, attributes)
    data = pydicom.dcmread(file)
    del data.ImagePositionPatient
    block = data.private_block(0x0065, "Image Private Header", create=True)
    block.add_new(0x50, "DS", count)
    items: list[Dataset] = []
    for k in range(SLICES):
        item = Dataset()
        position = (volume.affine @ [0, 0, k, 1])[:3]
        item.ImagePositionPatient = [f"{x:.6f}" for x in position]
        items.append(item)
    block.add_new(0x51, "SQ", items)
    data.save_as(file)
    return file, volume


def refusal_of(file: Path) -> Refusal:
    answer = open_images(read_headers([file]), lambda _: file)
    assert isinstance(answer, Refusal), answer
    assert answer.reason == "mosaic"
    return answer


@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_tiles_lie_where_their_own_positions_say(syntax: Any, tmp_path: Path) -> None:
    file, expected = sound_vframe(tmp_path)
    if syntax is not None:
        data = pydicom.dcmread(file)
        data.file_meta.TransferSyntaxUID = syntax
        implicit = syntax == ImplicitVRLittleEndian
        data.save_as(file, implicit_vr=implicit, little_endian=True)
    volume = read_series([file])
    assert isinstance(volume, Volume), volume
    assert np.array_equal(volume.values(), expected.array)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)


@pytest.mark.parametrize("count", ["4", "6", "0", "-1", "x", ""])
def test_a_count_that_is_not_that_of_the_positions_is_refused(count: str, tmp_path: Path) -> None:
    file, _ = sound_vframe(tmp_path)
    data = pydicom.dcmread(file)
    data[0x00651050] = pydicom.DataElement(0x00651050, "LO", count)
    data.save_as(file)
    assert "positions" in refusal_of(file).sentence


def test_a_position_that_is_missing_or_no_number_is_refused(tmp_path: Path) -> None:
    file, _ = sound_vframe(tmp_path)
    data = pydicom.dcmread(file)
    del data.private_block(0x0065, "Image Private Header")[0x51].value[2].ImagePositionPatient
    data.save_as(file)
    assert "(0065,1051) are absent or damaged" in refusal_of(file).sentence


def test_an_image_whose_private_attributes_were_removed_is_refused(tmp_path: Path) -> None:
    file, _ = sound_vframe(tmp_path)
    data = pydicom.dcmread(file)
    data.remove_private_tags()
    data.save_as(file)
    assert "(0065,1051) are absent or damaged" in refusal_of(file).sentence


def test_a_matrix_that_holds_no_whole_tiles_is_refused(tmp_path: Path) -> None:
    file, _ = sound_vframe(tmp_path)
    data = pydicom.dcmread(file)
    data.Rows = 15
    data.save_as(file)
    assert "5 slices do not tile an image of 18 x 15 pixels" in refusal_of(file).sentence

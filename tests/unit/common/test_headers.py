"""What is kept of a header at registration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID

from services.common.headers import HeaderError, InstanceHeader, read_registration
from services.imaging import SeriesAttributes, Volume, write_mr_series


def _series(folder: Path) -> list[Path]:
    volume = Volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.diag([1.5, 2.5, 3.5, 1]))
    attributes = SeriesAttributes(
        study_uid="1.2.1",
        series_uid="1.2.2",
        frame_of_reference_uid="1.2.3",
        patient_name="Secret^Name",
        patient_id="SECRET-ID",
        series_description="T1",
    )
    return write_mr_series(volume, folder, attributes)


def test_pixel_bytes_are_where_the_header_says(tmp_path: Path) -> None:
    file = _series(tmp_path)[0]
    header = read_registration(file.read_bytes()).header
    assert header.pixel_offset is not None
    assert header.pixel_length == 24
    raw = file.read_bytes()[header.pixel_offset : header.pixel_offset + header.pixel_length]
    assert raw == pydicom.dcmread(file).PixelData


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_pixel_place_in_implicit_and_explicit_vr(tmp_path: Path, syntax: str) -> None:
    dataset = pydicom.dcmread(_series(tmp_path)[0])
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    file = tmp_path / "again.dcm"
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    header = read_registration(file.read_bytes()).header
    assert header.pixel_offset is not None
    assert header.pixel_length is not None
    found = file.read_bytes()[header.pixel_offset : header.pixel_offset + header.pixel_length]
    assert found == dataset.PixelData


def test_compressed_pixels_have_no_length(scan: Callable[[str], Path]) -> None:
    file = next(scan("siemens-mr-mosaic-jpeg").rglob("*.dcm"))
    assert read_registration(file.read_bytes()).header.pixel_length is None


def test_numbers_are_kept_as_they_were_sent(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(_series(tmp_path)[0])
    dataset.ImagePositionPatient = ["-12.50", "3.0e1", "7"]
    file = tmp_path / "again.dcm"
    dataset.save_as(file)
    header = read_registration(file.read_bytes()).header
    assert header.attributes["ImagePositionPatient"] == ["-12.50", "3.0e1", "7"]
    assert header.numbers("ImagePositionPatient") == (-12.5, 30.0, 7.0)


def test_that_there_is_a_modality_table_is_kept(tmp_path: Path) -> None:
    file = _series(tmp_path)[0]
    dataset = pydicom.dcmread(file)
    assert "ModalityLUTSequence" not in read_registration(file.read_bytes()).header.attributes
    dataset.ModalityLUTSequence = []
    dataset.save_as(file)
    assert "ModalityLUTSequence" not in read_registration(file.read_bytes()).header.attributes
    dataset.ModalityLUTSequence = [pydicom.Dataset()]
    dataset.save_as(file)
    header = read_registration(file.read_bytes()).header
    assert header.attributes["ModalityLUTSequence"] == "present"


def test_header_holds_no_patient_data(tmp_path: Path) -> None:
    registration = read_registration(_series(tmp_path)[0].read_bytes())
    assert "Secret" not in str(registration.header)
    assert "SECRET" not in str(registration.series_attributes)
    assert registration.study_attributes["PatientID"] == "SECRET-ID"


def test_stored_form_is_read_back(tmp_path: Path) -> None:
    header = read_registration(_series(tmp_path)[0].read_bytes()).header
    assert InstanceHeader.from_json({**header.as_json(), "of_a_newer_version": 1}) == header


@pytest.mark.parametrize("content", [b"", b"no dicom", b"\0" * 128 + b"DICM"])
def test_what_is_no_dicom_is_an_error_without_content(content: bytes) -> None:
    with pytest.raises(HeaderError):
        read_registration(content)


def test_missing_uid_is_named(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(_series(tmp_path)[0])
    del dataset.SeriesInstanceUID
    file = tmp_path / "again.dcm"
    dataset.save_as(file)
    with pytest.raises(HeaderError, match="SeriesInstanceUID"):
        read_registration(file.read_bytes())

"""What is an image of a series, what is left out and said, and which image is the odd one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RawDataStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from services.common.fates import Refusal
from services.common.headers import read_registration
from services.imaging import GeometryLimits, Volume, examine_series, images_of, read_series
from services.imaging.header_files import read_headers
from tests.builders.broken_series import (
    meaningless_orientation,
    mixed_frame_of_reference,
    mixed_matrix,
    mixed_orientations,
    mixed_pixel_spacing,
    shifted_planes,
)
from tests.builders.series import edit, headers_of, small_volume, sound_series


def added(files: list[Path], uid: str, number: int, change: Callable[[Any], None]) -> list[Path]:
    """The series with one more object, made of its first."""
    data = pydicom.dcmread(files[0])
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(uid)
    data.InstanceNumber = number
    change(data)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    file = files[0].parent / f"added-{number}.dcm"
    data.save_as(file)
    return [*files, file]


def scout(data: Any) -> None:
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def screen(data: Any) -> None:
    data.SOPClassUID = SecondaryCaptureImageStorage
    data.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    del data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing
    del data.FrameOfReferenceUID


def raw_data(data: Any) -> None:
    """With Rows and Columns, as a Philips scanner writes it."""
    data.SOPClassUID = RawDataStorage
    del data.PixelData
    assert data.Rows
    assert data.Columns


def without_pixels(data: Any) -> None:
    del data.PixelData


@pytest.mark.parametrize(
    "syntax",
    [
        ExplicitVRLittleEndian,
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
    ],
    ids=lambda uid: uid.keyword,
)
@pytest.mark.parametrize("pixels", [True, False])
def test_an_image_is_what_has_pixels_in_any_syntax(
    syntax: UID, pixels: bool, tmp_path: Path
) -> None:
    (file, *_) = sound_series(tmp_path)
    data = pydicom.dcmread(file)
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    if not pixels:
        del data.PixelData
    data.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        file,
        data,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    (header,) = read_headers([file])
    assert header.is_image is pixels
    assert read_registration(file.read_bytes()).header.is_image is pixels


def test_raw_data_among_images_is_no_image_though_it_has_rows(tmp_path: Path) -> None:
    files = added(sound_series(tmp_path), "2.25.77", 900, raw_data)
    found = images_of(headers_of(files))
    assert len(found.headers) == 7
    assert found.left_out == ""
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    assert np.array_equal(volume.values(), small_volume().array)


def test_an_image_that_lost_its_pixels_is_missed_and_named(tmp_path: Path) -> None:
    files = added(sound_series(tmp_path), "2.25.78", 900, without_pixels)
    files[0].unlink()
    refusal = read_series(files[1:])
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.values["problem"]) == (
        "pixels_unreadable",
        "it has no pixel data",
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (scout, "Image 900 of the series is no slice but a localizer and was left out."),
        (screen, "Image 900 of the series is a picture of a screen and was left out."),
    ],
)
def test_a_minority_that_is_no_slice_is_left_out_and_told(
    change: Callable[[Any], None], sentence: str, tmp_path: Path
) -> None:
    files = added(sound_series(tmp_path), "2.25.79", 900, change)
    assert images_of(headers_of(files)).left_out == sentence
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    assert np.array_equal(volume.values(), small_volume().array)


def test_localizers_that_are_most_of_a_series_stay(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    for file in files[:4]:
        edit(file, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    found = images_of(headers_of(files))
    assert (len(found.headers), found.left_out) == (7, "")


@pytest.mark.parametrize(
    ("build", "number"),
    [
        (mixed_orientations, "4"),
        (mixed_matrix, "3"),
        (mixed_pixel_spacing, "3"),
        (mixed_frame_of_reference, "6"),
        (shifted_planes, "4"),
    ],
)
def test_a_refusal_names_the_odd_image_by_its_number(
    build: Callable[[Path], list[Path]], number: str, tmp_path: Path
) -> None:
    refusal = examine_series(headers_of(build(tmp_path)), GeometryLimits("a model"))
    assert isinstance(refusal, Refusal)
    assert f": image {number} differs from the others." in refusal.sentence


def test_where_no_kind_is_that_of_most_images_none_is_called_odd(tmp_path: Path) -> None:
    files = sound_series(tmp_path)[:6]
    for file in files[:3]:
        edit(file, PixelSpacing=[1.3, 1.3])
    refusal = examine_series(headers_of(files), GeometryLimits("a model"))
    assert isinstance(refusal, Refusal)
    assert refusal.values["odd"] == ""
    assert "others" not in refusal.sentence


def test_an_image_without_a_place_is_named_by_its_number(tmp_path: Path) -> None:
    refusal = examine_series(headers_of(meaningless_orientation(tmp_path)), GeometryLimits("m"))
    assert isinstance(refusal, Refusal)
    assert refusal.sentence.startswith("Image 3 does not say")

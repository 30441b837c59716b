"""Frames of enhanced objects are judged and read as the classic images they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import StudyStore, instance_key
from services.imaging import (
    GeometryLimits,
    SeriesGeometry,
    Volume,
    examine_series,
    open_images,
    open_stored_images,
    read_series,
    split_volumes,
)
from services.imaging.header_files import read_headers
from tests.builders import broken_series
from tests.builders.enhanced import enhanced_of
from tests.builders.mosaics import sound_mosaic
from tests.builders.series import (
    as_sent,
    edit,
    headers_of,
    raw,
    small_volume,
    sound_series,
    stored,
)
from tests.fuzz.make_object_corpus import ENCODED

LIMITS = GeometryLimits("a model")


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_enhanced_object_is_the_volume_of_its_classic_images(modality: str, tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    for n, file in enumerate(files):
        edit(file, RescaleSlope=1 + n % 2 * (modality == "PT"), RescaleIntercept=-10)
    classic = loaded(files)
    shuffled = [files[n] for n in (3, 0, 6, 2, 5, 1, 4)]
    enhanced = loaded([enhanced_of(shuffled, tmp_path / "enhanced.dcm", modality)])
    np.testing.assert_array_equal(enhanced.values(), classic.values())
    np.testing.assert_array_equal(enhanced.affine, classic.affine)
    assert enhanced.array.dtype == (np.float32 if modality == "PT" else np.int16)


def test_frames_say_how_they_were_acquired_as_classic_images_do(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    for file in files:
        edit(file, ScanningSequence=None) if "ScanningSequence" in pydicom.dcmread(file) else None
    file = enhanced_of(files, tmp_path / "enhanced.dcm")
    data: Any = pydicom.dcmread(file)
    data.EchoPlanarPulseSequence, data.EchoPulseSequence = "YES", "GRADIENT"
    data.PulseSequenceName = "*epfid2d1_64"
    for frame in data.PerFrameFunctionalGroupsSequence:
        frame.MRImageFrameTypeSequence[0].AcquisitionContrast = "T2_STAR"
        direction = pydicom.Dataset()
        direction.DiffusionGradientOrientation = [0.0, 0.6, 0.8]
        diffusion = pydicom.Dataset()
        diffusion.DiffusionBValue = 1000.0
        diffusion.DiffusionGradientDirectionSequence = [direction]
        frame.MRDiffusionSequence = [diffusion]
    data.save_as(file)
    (volume,) = split_volumes(opened(file)).volumes
    assert volume.attributes["ScanningSequence"] == ["GR", "EP"]
    assert volume.attributes["SequenceName"] == "*epfid2d1_64"
    assert volume.attributes["AcquisitionContrast"] == "T2_STAR"
    assert volume.images[0].numbers("DiffusionGradientOrientation") == (0.0, 0.6, 0.8)


def test_compressed_frames_equal_uncompressed_ones(tmp_path: Path) -> None:
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    expected = loaded([file])
    data = pydicom.dcmread(file)
    data.compress(RLELossless, generate_instance_uid=False)
    data.save_as(file)
    np.testing.assert_array_equal(loaded([file]).array, expected.array)


@pytest.mark.parametrize("table", ["extended", "basic", "none"])
@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_frames_are_told_apart_by_whichever_table_there_is(
    syntax: UID, table: str, tmp_path: Path
) -> None:
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    expected = loaded([file])
    data = pydicom.dcmread(file)
    planes = data.pixel_array
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
        frames = list(generate_frames(data.PixelData, number_of_frames=data.NumberOfFrames))
    else:
        frames = [bytes(ENCODED[syntax](plane.astype(np.uint16))) for plane in planes]
    if table == "extended":
        data.PixelData, offsets, lengths = encapsulate_extended(frames)
        data.ExtendedOffsetTable, data.ExtendedOffsetTableLengths = offsets, lengths
    else:
        data.PixelData = encapsulate(frames, has_bot=table == "basic")
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(file)
    np.testing.assert_array_equal(loaded([file]).array, expected.array)


def test_frames_of_runs_in_several_fragments_without_a_table_are_refused_in_true_words(
    tmp_path: Path,
) -> None:
    """They are neither cut off nor damaged: where a frame begins is not told."""
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    data = pydicom.dcmread(file)
    data.compress(RLELossless, generate_instance_uid=False)
    frames = list(generate_frames(data.PixelData, number_of_frames=data.NumberOfFrames))
    data.PixelData = encapsulate(frames, fragments_per_frame=3, has_bot=False)
    data.save_as(file)
    refused = read_series([file])
    assert isinstance(refused, Refusal)
    assert refused.reason == "pixels_unreadable"
    assert "nothing tells where each begins" in refused.sentence


@pytest.mark.parametrize(
    "builder",
    [
        broken_series.missing_slice,
        broken_series.duplicate_position,
        broken_series.gantry_tilt,
        broken_series.uneven_spacing,
        broken_series.shifted_planes,
    ],
)
def test_frames_are_refused_with_the_reason_of_classic_images(
    builder: broken_series.Builder, tmp_path: Path
) -> None:
    files = builder(tmp_path)
    classic = examine_series(headers_of(files), LIMITS)
    images = opened(enhanced_of(files, tmp_path / "enhanced.dcm"))
    enhanced = examine_series(images, LIMITS)
    assert isinstance(classic, Refusal)
    assert isinstance(enhanced, Refusal)
    assert enhanced.reason == classic.reason


def test_a_missing_frame_is_told_by_frame_numbers(tmp_path: Path) -> None:
    files = broken_series.missing_slice(tmp_path)
    refusal = examine_series(opened(enhanced_of(files, tmp_path / "enhanced.dcm")), LIMITS)
    assert isinstance(refusal, Refusal)
    assert (refusal.values["before"], refusal.values["after"]) == ("3", "4")


def test_stacks_of_one_object_are_volumes_of_their_own(tmp_path: Path) -> None:
    files = sound_series(tmp_path)
    stacks = ["a"] * 4 + ["b"] * 3
    images = opened(enhanced_of(files, tmp_path / "enhanced.dcm", stack_ids=stacks))
    split = split_volumes(images)
    assert [len(volume.images) for volume in split.volumes] == [4, 3]
    assert split.told_by == ("StackID",)
    assert all(volume.whole for volume in split.volumes)


def test_geometry_names_the_frame_of_every_plane(tmp_path: Path) -> None:
    file = enhanced_of(sound_series(tmp_path)[::-1], tmp_path / "enhanced.dcm")
    geometry = examine_series(opened(file), LIMITS)
    assert isinstance(geometry, SeriesGeometry)
    assert [plane.frame for plane in geometry.planes] == [7, 6, 5, 4, 3, 2, 1]


def test_fewer_functional_groups_than_frames_are_refused(tmp_path: Path) -> None:
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    edit(file, NumberOfFrames=8)
    refusal = open_images(headers_of([file]), lambda header: file)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "enhanced_multiframe"
    assert refusal.values == {"problem": "it has 8 frames, but functional groups for 7", "odd": ""}


@pytest.mark.parametrize(
    ("builder", "problem"),
    [
        (broken_series.enhanced_multiframe, "it has no functional groups"),
        (broken_series.mosaic, "the CSA header is absent or damaged"),
    ],
)
def test_objects_that_do_not_tell_their_planes_are_refused(
    builder: broken_series.Builder, problem: str, tmp_path: Path
) -> None:
    (file,) = builder(tmp_path)
    refusal = open_images(headers_of([file]), lambda header: file)
    assert isinstance(refusal, Refusal)
    assert (refusal.reason, refusal.values) == (
        builder.__name__,
        {"problem": problem, "odd": ""},
    )


@pytest.mark.parametrize("spacing", [b"3,6 ", rb"3.6\3.6 ", b"abc "])
def test_a_mosaic_whose_spacing_is_no_number_is_refused(spacing: bytes, tmp_path: Path) -> None:
    file = as_sent(sound_mosaic(tmp_path), 0x00180088, "DS", spacing)
    refusal = open_images(read_headers([file]), lambda header: file)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "mosaic"
    assert refusal.values["problem"] == "spacing between slices is absent or unreadable"


def no_sequence(data: Any) -> None:
    group = data.PerFrameFunctionalGroupsSequence[3]
    group[0x00209113] = raw(0x00209113, "LO", b"abcd")


def two_numbers_of_frames(data: Any) -> None:
    data[0x00280008] = raw(0x00280008, "IS", rb"7\7 ")


@pytest.mark.parametrize("damage", [no_sequence, two_numbers_of_frames])
def test_an_enhanced_object_with_a_damaged_header_is_refused(
    damage: Callable[[Any], None], tmp_path: Path
) -> None:
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    data = pydicom.dcmread(file)
    damage(data)
    data.save_as(file)
    refusal = open_images(read_headers([file]), lambda header: file)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "enhanced_multiframe"
    assert refusal.values["problem"] == "its header is damaged"


def test_an_object_that_the_disk_does_not_give_is_an_error(tmp_path: Path) -> None:
    file = enhanced_of(sound_series(tmp_path), tmp_path / "enhanced.dcm")
    with pytest.raises(IsADirectoryError):
        open_images(headers_of([file]), lambda header: tmp_path)


def test_mosaics_that_differ_in_nothing_are_a_volume_each(tmp_path: Path) -> None:
    files = [
        sound_mosaic(tmp_path / uid, SOPInstanceUID=uid, InstanceNumber=number)
        for number, uid in enumerate(("2.25.3", "2.25.1", "2.25.2"), start=1)
    ]
    by_uid = {
        header.sop_instance_uid: file for header, file in zip(headers_of(files), files, strict=True)
    }
    images = open_images(headers_of(files), lambda header: by_uid[header.sop_instance_uid])
    assert isinstance(images, tuple), images
    split = split_volumes(images)
    assert split.told_by == ("SOPInstanceUID",)
    assert [{image.sop_instance_uid for image in each.images} for each in split.volumes] == [
        {uid} for uid in by_uid
    ]


def test_an_object_gone_from_the_store_is_source_missing(tmp_path: Path) -> None:
    file = enhanced_of(sound_series(tmp_path / "dicom"), tmp_path / "enhanced.dcm")
    store = StudyStore(tmp_path / "store")
    headers = stored(store, [file])
    (header,) = headers
    key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
    store.path(key).unlink()
    refusal = open_stored_images(headers, store)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "source_missing"
    assert refusal.values["instance_uid"] == header.sop_instance_uid


def test_classic_images_are_opened_without_their_files(tmp_path: Path) -> None:
    headers = headers_of(sound_series(tmp_path, small_volume()))

    def no_file(header: InstanceHeader) -> Path:
        raise AssertionError(header.sop_instance_uid)

    assert open_images(headers, no_file) == tuple(headers)


def opened(file: Path) -> tuple[InstanceHeader, ...]:
    images = open_images(headers_of([file]), lambda header: file)
    assert isinstance(images, tuple), images
    return images


def loaded(files: list[Path]) -> Volume:
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    return volume

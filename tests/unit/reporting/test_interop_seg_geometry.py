"""Where a SEG says it lies: the rows of docs/interop.md on references, grids and frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest

from services.reporting.job import Withholding
from services.reporting.source.series import source_series
from tests.builders.broken_series import duplicate_position, missing_slice
from tests.builders.reporting import (
    analysis_of,
    blobs,
    brain_manifest,
    series_in,
    three_segments,
)
from tests.builders.series import edit, headers_of
from tests.unit.reporting.conftest import Written, write
from tests.unit.reporting.reading import digits, frames, seg_slice, write_to

SHAPE = (7, 12, 10)


def test_r4_frames_that_are_no_whole_bytes_are_packed_without_gaps(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial", (7, 11, 9))
    labels = blobs((7, 11, 9))
    seg = pydicom.dcmread(write_to(tmp_path, write(files, analysis_of(files, labels)).segmentation))
    assert (seg.Rows * seg.Columns) % 8
    order = [seg_slice(files, frame) for frame in frames(seg)]
    np.testing.assert_array_equal(seg.pixel_array, labels[order])


def test_r10_frame_of_reference_is_the_sources(one: Written) -> None:
    assert one.seg().FrameOfReferenceUID == one.source().FrameOfReferenceUID


def test_r15_every_frame_names_the_one_instance_that_it_lies_on(several: Written) -> None:
    for frame in frames(several.seg()):
        assert len(frame.DerivationImageSequence) == 1
        images = frame.DerivationImageSequence[0].SourceImageSequence
        assert len(images) == 1
        k = seg_slice(several.files, frame)
        assert images[0].ReferencedSOPClassUID == several.source(k).SOPClassUID


def test_r16_derivation_is_never_empty(several: Written) -> None:
    assert all(frame.DerivationImageSequence for frame in frames(several.seg()))


def test_r17_there_is_no_source_image_sequence_at_the_top(one: Written) -> None:
    assert "SourceImageSequence" not in one.seg()


def test_r18_spatial_locations_are_preserved(one: Written) -> None:
    for frame in frames(one.seg()):
        image = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.SpatialLocationsPreserved == "YES"


def test_r19_rows_and_columns_are_the_sources(one: Written) -> None:
    source = one.source()
    assert (one.seg().Rows, one.seg().Columns) == (source.Rows, source.Columns)


def test_r20_orientation_is_shared_and_copied_digit_for_digit(one: Written) -> None:
    orientation = one.seg().SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    source = pydicom.dcmread(one.files[0])
    assert digits(orientation, "ImageOrientationPatient") == digits(
        source, "ImageOrientationPatient"
    )


def test_r20_odd_decimal_strings_stay_as_the_scanner_wrote_them(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        data = pydicom.dcmread(file)
        data.ImageOrientationPatient = ["1.0000000e+00", "0", "-0.0", "+0", "1.", "0.000"]
        data.PixelSpacing = ["1.10", "9.0E-1"]
        data.ImagePositionPatient = [f"{float(v):+.4E}" for v in data.ImagePositionPatient]
        data.save_as(file)
    seg = pydicom.dcmread(
        write_to(tmp_path, write(files, analysis_of(files, blobs(SHAPE))).segmentation)
    )
    shared = seg.SharedFunctionalGroupsSequence[0]
    orientation = digits(shared.PlaneOrientationSequence[0], "ImageOrientationPatient")
    assert orientation == ["1.0000000e+00", "0", "-0.0", "+0", "1.", "0.000"]
    assert digits(shared.PixelMeasuresSequence[0], "PixelSpacing") == ["1.10", "9.0E-1"]
    frame = frames(seg)[0]
    source = pydicom.dcmread(files[seg_slice(files, frame)])
    assert digits(frame.PlanePositionSequence[0], "ImagePositionPatient") == digits(
        source, "ImagePositionPatient"
    )


def test_r21_positions_are_copied_digit_for_digit(several: Written) -> None:
    for frame in frames(several.seg()):
        source = several.source(seg_slice(several.files, frame))
        assert digits(frame.PlanePositionSequence[0], "ImagePositionPatient") == digits(
            source, "ImagePositionPatient"
        )


@pytest.mark.parametrize(
    "orientation", ["axial", "sagittal", "coronal", "oblique", "flipped", "feet-first"]
)
def test_r22_no_orientation_is_flipped(tmp_path: Path, orientation: str) -> None:
    """Read by source instance alone: every voxel lies on the pixel that was labelled."""
    files = series_in(tmp_path, orientation)
    labels = blobs(SHAPE)
    seg = pydicom.dcmread(write_to(tmp_path, write(files, analysis_of(files, labels)).segmentation))
    back = np.zeros(SHAPE, np.uint8)
    for frame, pixels in zip(frames(seg), seg.pixel_array, strict=True):
        back[seg_slice(files, frame)] = pixels
    np.testing.assert_array_equal(back, labels)


def test_r23_pixel_measures_are_shared_and_complete(one: Written) -> None:
    measures = one.seg().SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert len(measures) == 1
    source = pydicom.dcmread(one.files[0])
    assert digits(measures[0], "PixelSpacing") == digits(source, "PixelSpacing")
    assert digits(measures[0], "SliceThickness") == digits(source, "SliceThickness")
    assert float(measures[0].SpacingBetweenSlices) == pytest.approx(2.5, abs=1e-9)


def test_r24_slice_distance_does_not_come_from_the_thickness(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, SliceThickness="4.0", SpacingBetweenSlices="3.9")
    seg = pydicom.dcmread(
        write_to(tmp_path, write(files, analysis_of(files, blobs(SHAPE))).segmentation)
    )
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5, abs=1e-9)
    assert float(measures.SliceThickness) == 4.0


def test_r24_a_source_without_thickness_gets_none(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, SliceThickness=None)
    seg = pydicom.dcmread(
        write_to(tmp_path, write(files, analysis_of(files, blobs(SHAPE))).segmentation)
    )
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SliceThickness" not in measures
    assert float(measures.SpacingBetweenSlices) == pytest.approx(2.5, abs=1e-9)


@pytest.mark.parametrize("broken", [missing_slice, duplicate_position])
def test_r25_uneven_or_doubled_positions_are_withheld(
    tmp_path: Path, broken: Callable[[Path], list[Path]]
) -> None:
    files = broken(tmp_path)
    outcome = source_series(headers_of(files), files[0])
    assert isinstance(outcome, Withholding)
    assert outcome.reason == "geometry_mismatch"


def test_r26_empty_frames_are_left_out(one: Written) -> None:
    found = int(np.count_nonzero(one.analysis.labels.any(axis=(1, 2))))
    assert found < SHAPE[0]
    # One more where that makes the length even: a frame has 15 bytes.
    assert int(one.seg().NumberOfFrames) == found + found % 2


def test_r26_empty_frames_are_kept_where_a_destination_wants_them(for_viewers: Written) -> None:
    seg = for_viewers.seg()
    assert int(seg.NumberOfFrames) == 2 * SHAPE[0]
    assert [seg_slice(for_viewers.files, frame) for frame in frames(seg)] == 2 * list(range(7))


def test_r28_dimensions_are_segment_then_position_from_one(several: Written) -> None:
    seg = several.seg()
    pointers = [item.DimensionIndexPointer for item in seg.DimensionIndexSequence]
    assert pointers == [0x0062000B, 0x00200032]
    organization = seg.DimensionOrganizationSequence[0].DimensionOrganizationUID
    assert {item.DimensionOrganizationUID for item in seg.DimensionIndexSequence} == {organization}
    values = [tuple(frame.FrameContentSequence[0].DimensionIndexValues) for frame in frames(seg)]
    for place in (0, 1):
        used = sorted({value[place] for value in values})
        assert used == list(range(1, len(used) + 1))


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "flipped", "oblique"])
def test_r29_frames_are_ordered_by_segment_then_along_the_normal(
    tmp_path: Path, orientation: str
) -> None:
    files = series_in(tmp_path, orientation)
    analysis = analysis_of(files, blobs(SHAPE, (1, 3)), three_segments())
    seg = pydicom.dcmread(write_to(tmp_path, write(files, analysis).segmentation))
    orientation_of = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    row, column = np.array(orientation_of.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    keys = [
        (
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber,
            float(normal @ np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)),
        )
        for frame in frames(seg)
    ]
    assert keys == sorted(keys)


def test_r30_one_structure_has_at_most_one_frame_per_slice(for_viewers: Written) -> None:
    """The budget of 5000 frames is thus out of reach for the catalogue's models."""
    slices = len(for_viewers.files)
    assert int(for_viewers.seg().NumberOfFrames) <= slices * 2
    assert len(brain_manifest().segments) * 1024 <= 5000


def test_r31_there_are_as_many_functional_groups_as_frames(several: Written) -> None:
    assert len(frames(several.seg())) == int(several.seg().NumberOfFrames)

"""Counting voxels and measuring volumes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from services.imaging import GeometryLimits
from services.reporting.analysis.measure import (
    count_voxels,
    measure,
    unknown_labels,
    volume,
    voxel_histogram,
)
from services.reporting.errors import JobError
from services.reporting.source.series import SourceSeries, source_series
from tests.builders.reporting import (
    analysis_of,
    blobs,
    brain_manifest,
    series_in,
    source_of,
    three_segments,
)
from tests.builders.series import edit, headers_of

SHAPE = (7, 12, 10)


def test_voxels_are_counted_slice_by_slice() -> None:
    labels = blobs(SHAPE, (1, 2))
    one, two, three = count_voxels(voxel_histogram(labels), three_segments())
    np.testing.assert_array_equal(one.voxels, (labels == 1).sum(axis=(1, 2)))
    np.testing.assert_array_equal(two.voxels, (labels == 2).sum(axis=(1, 2)))
    assert (three.total, three.found) == (0, False)


def test_a_segment_that_was_not_found_has_no_volume() -> None:
    counts = count_voxels(voxel_histogram(blobs(SHAPE, (2,))), three_segments())
    measured = measure(three_segments(), counts, 2.0)
    assert [value.segment_number for value in measured if value.value is not None] == [2]
    assert [value.why_unknown for value in measured] == [
        "Brain was looked for and not found.",
        "",
        "Brainstem was looked for and not found.",
    ]


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "flipped", "oblique"])
def test_voxel_volume_is_that_of_the_grid_in_every_orientation(
    tmp_path: Path, orientation: str
) -> None:
    source = source_of(series_in(tmp_path, orientation))[1]
    assert source.voxel_volume_mm3 == pytest.approx(0.9 * 1.1 * 2.5, rel=1e-9)
    assert source.slice_spacing_mm == pytest.approx(2.5, rel=1e-9)


@pytest.mark.parametrize("length", [0.9991, 1.0009])
def test_a_voxel_measures_what_its_spacings_say_whatever_length_cosines_have(
    tmp_path: Path, length: float
) -> None:
    files = series_in(tmp_path, "oblique")
    for file in files:
        sent = pydicom.dcmread(file).ImageOrientationPatient
        edit(file, ImageOrientationPatient=[f"{float(x) * length:.9f}" for x in sent])
    source = source_of(files)[1]
    assert source.voxel_volume_mm3 == pytest.approx(0.9 * 1.1 * 2.5, rel=1e-7)


def test_a_voxel_measures_what_its_spacings_say_whatever_digits_cosines_have(
    tmp_path: Path,
) -> None:
    files = series_in(tmp_path, "oblique")
    for file in files:
        sent = pydicom.dcmread(file).ImageOrientationPatient
        edit(file, ImageOrientationPatient=[f"{float(x):.3f}" for x in sent])
    headers = headers_of(files)
    source = source_series(headers, files[0], GeometryLimits("m", accepts_gantry_tilt=True))
    assert isinstance(source, SourceSeries), source
    # The distance of the slices itself is measured along the rounded normal.
    assert source.voxel_volume_mm3 == pytest.approx(0.9 * 1.1 * 2.5, rel=5e-6)


def test_volume_is_voxels_times_voxel_volume(tmp_path: Path) -> None:
    analysis = analysis_of(series_in(tmp_path, "oblique"), blobs(SHAPE))
    voxels = analysis.counts[0].total
    assert analysis.values[0].value == pytest.approx(voxels * 2.475 / 1000, abs=1e-6)
    assert analysis.values[0].unit == "mL"


@pytest.mark.parametrize(
    ("unit", "value"), [("mL", 0.24), ("cm3", 0.24), ("mm3", 240), ("L", 24e-5)]
)
def test_volume_is_given_in_the_manifests_unit(unit: str, value: float) -> None:
    assert volume(120, 2.0, unit) == pytest.approx(value)


def test_a_unit_that_is_none_of_a_volume_is_an_error() -> None:
    with pytest.raises(JobError, match="mm2"):
        volume(1, 1.0, "mm2")


def test_labels_of_no_segment_are_known() -> None:
    labels = blobs(SHAPE, (1, 2))
    assert unknown_labels(voxel_histogram(labels), three_segments()) == []
    assert unknown_labels(voxel_histogram(labels), brain_manifest()) == [2]

"""What IHE AI Results asks of a report, as far as it is known: one test per point."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pydicom
import pytest

from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.objects.forms import PLAIN
from services.reporting.objects.naming import series_uid, sop_instance_uid
from tests.unit.reporting.conftest import Written
from tests.unit.reporting.reading import concept, groups, items, meaning, named, value, walk

SHAPE = (7, 12, 10)


def test_air_2_another_build_of_the_model_is_another_device(one: Written) -> None:
    def device(digest: str) -> str:
        analysis = replace(one.analysis, job=replace(one.analysis.job, model_digest=digest))
        report = pydicom.dcmread(BytesIO(encode_report(analysis, PLAIN, 1, Context())))
        assert report.ContributingEquipmentSequence[-1].DeviceUID == named(report, "121012")[0].UID
        return str(report.ContributingEquipmentSequence[-1].DeviceUID)

    assert device("a" * 64) == device("a" * 64)
    assert device("a" * 64) != device("b" * 64)


def test_air_10_text_is_a_comment_or_identifies_something(one: Written) -> None:
    """No finding in free text only: what is found is coded."""
    context = Context(remarks={1: "Look at it."})
    report = pydicom.dcmread(BytesIO(encode_report(one.analysis, PLAIN, 1, context)))
    texts = {meaning(item) for item in walk(report) if item.ValueType == "TEXT"}
    assert texts == {
        "Comment",
        "Tracking Identifier",
        "Algorithm Name",
        "Algorithm Version",
        "Algorithm Manufacturer",
        "Device Observer Name",
        "Device Observer Manufacturer",
        "Device Observer Model Name",
        "Device Observer Serial Number",
    }
    assert "Finding" in {meaning(item) for item in walk(report) if item.ValueType == "CODE"}


def test_air_11_looked_for_and_not_found_is_said(several: Written, nothing: Written) -> None:
    for written, missing in ((several, [2]), (nothing, [1, 2, 3])):
        said: list[int] = []
        for number, group in enumerate(groups(written.sr()), start=1):
            for presence in named(group, "121052"):
                assert value(presence) == ("260415000", "SCT")
                assert not [item for item in items(group) if item.ValueType == "NUM"]
                said.append(number)
        assert said == missing


def test_air_11_a_report_on_nothing_refers_to_no_segmentation(nothing: Written) -> None:
    assert nothing.segmentation == b""
    (study,) = nothing.sr().CurrentRequestedProcedureEvidenceSequence
    assert len(study.ReferencedSeriesSequence) == 1
    assert not [item for item in walk(nothing.sr()) if concept(item) == "121191"]


def test_air_12_every_number_has_units_of_ucum(several: Written) -> None:
    numbers = [item for item in walk(several.sr()) if item.ValueType == "NUM"]
    assert numbers
    for number in numbers:
        unit = number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
        assert unit.CodingSchemeDesignator == "UCUM"


def test_air_13_every_group_has_finding_site_and_tracking(several: Written) -> None:
    for group in groups(several.sr()):
        for code in ("121071", "363698007", "112039", "112040"):
            assert len(named(group, code)) == 1


def test_air_14_the_volume_is_that_of_the_segmentations_voxels(several: Written) -> None:
    """From the SEG's own pixels and its own spacings alone."""
    seg = several.seg()
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_mm3 = float(np.prod(measures.PixelSpacing)) * float(measures.SpacingBetweenSlices)
    voxels = {1: 0, 2: 0}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        voxels[number] += int(pixels.sum())
    for group in groups(several.sr()):
        for segment in named(group, "121191"):
            number = segment.ReferencedSOPSequence[0].ReferencedSegmentNumber
            (volume,) = named(group, "118565006")
            reported = float(volume.MeasuredValueSequence[0].NumericValue)
            assert reported == pytest.approx(voxels[number] * voxel_mm3 / 1000, abs=1e-6)


def test_air_15_no_number_hides_in_a_code_meaning(several: Written) -> None:
    for item in walk(several.sr()):
        assert not any(letter.isdigit() for letter in meaning(item)), meaning(item)


def test_air_22_the_report_reaches_every_object_of_the_job(several: Written) -> None:
    job = several.analysis.job.job_uid
    reached = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(several.sr())
        if item.ValueType == "IMAGE"
    }
    assert sop_instance_uid(job, "SEG", "") in reached


def test_air_22_a_form_reaches_the_segmentation_of_the_same_form(for_viewers: Written) -> None:
    job = for_viewers.analysis.job.job_uid
    (study,) = for_viewers.sr().CurrentRequestedProcedureEvidenceSequence
    last = study.ReferencedSeriesSequence[-1]
    assert last.SeriesInstanceUID == series_uid(job, "SEG", "keep_empty_frames")
    assert last.SeriesInstanceUID == for_viewers.seg().SeriesInstanceUID

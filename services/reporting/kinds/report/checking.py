"""The check of an SR: its numbers are computed anew from the voxels that were counted."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from models.manifest import Code, Segment
from models.manifest.schema import VolumeMeasurement
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import interval_of
from services.reporting.analysis.measure import SegmentCount, volume
from services.reporting.kinds.report.names import KEY_SLICE, SR
from services.reporting.kinds.report.reading import (
    CodeRead,
    Group,
    Number,
    concept,
    content,
    read_groups,
)
from services.reporting.kinds.segmentation.names import SEG
from services.reporting.objects.checking import check_identity, expect, problem_of
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import (
    tracking_uid,
)
from services.reporting.source.references import instances_of

# Relative: decimal strings of 16 characters keep some fourteen digits; far below one voxel in
# the largest volume, so that no count is mistaken for another.
_VOLUME_TOLERANCE = 1e-8
# Absolute part: values are rounded to a thousandth of a cubic millimetre.
_ROUNDING_MM3 = 1e-3


def check_report(file: Path, analysis: Analysis, form: Form) -> str | None:
    """What is wrong with an SR file; None when nothing is."""
    return problem_of(file, "report", lambda dataset: _report(dataset, analysis, form))


def _report(dataset: pydicom.FileDataset, analysis: Analysis, form: Form) -> None:
    check_identity(dataset, analysis, SR, form)
    _check_document(dataset, analysis)
    _check_predecessor(dataset, form)
    _check_evidence(dataset, analysis, form)
    _check_library(dataset, analysis)
    _check_groups(read_groups(dataset), analysis, form)


def _check_document(dataset: Dataset, analysis: Analysis) -> None:
    """Title, template and flags that viewers and archives look for (S-2, S-3, S-22)."""
    completion = "PARTIAL" if analysis.job.incomplete else "COMPLETE"
    title = dataset.ConceptNameCodeSequence[0]
    expect(
        (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM"), "wrong report title"
    )
    template = dataset.ContentTemplateSequence[0]
    expect(
        (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500"),
        "the template is not TID 1500",
    )
    expect(
        (dataset.CompletionFlag, dataset.VerificationFlag) == (completion, "UNVERIFIED"),
        "completion or verification flag",
    )


def _check_predecessor(dataset: Dataset, form: Form) -> None:
    """The report that this one replaces is the one that its form names, or none (S-24)."""
    named = [
        item.ReferencedSOPInstanceUID
        for study in dataset.get("PredecessorDocumentsSequence") or []
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    ]
    expect(named == ([form.follows] if form.follows else []), "it replaces another report")


def _check_evidence(dataset: Dataset, analysis: Analysis, form: Form) -> None:
    """The image series first, with every instance, then the SEG (S-12, S-13)."""
    job = analysis.job
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence
    expect(len(evidence) == 1, "evidence of one study is expected")
    series = [
        (
            item.SeriesInstanceUID,
            [each.ReferencedSOPInstanceUID for each in item.ReferencedSOPSequence],
        )
        for item in evidence[0].ReferencedSeriesSequence
    ]
    instances = [header.sop_instance_uid for header in instances_of(analysis.source)]
    wanted = [(job.series_uid, instances)]
    if analysis.found:
        seg = SEG.sop_instance_uid(job.job_uid, form)
        wanted.append((SEG.series_uid(job.job_uid, form), [seg]))
    expect(series == wanted, "evidence is not the image series and then the segmentation")


def _check_library(dataset: Dataset, analysis: Analysis) -> None:
    """The image library holds every instance of the source once, and no other (TID 1600)."""
    named = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for library in content(dataset)
        if concept(library) == "111028"
        for group in content(library)
        for item in content(group)
        if item.ValueType == "IMAGE"
    ]
    wanted = [header.sop_instance_uid for header in instances_of(analysis.source)]
    expect(named == wanted, "the image library is not that of the source")


def _check_groups(groups: list[Group], analysis: Analysis, form: Form) -> None:
    """One group per segment; its volume is the segment's voxels times the voxel's volume."""
    expect(len(groups) == len(analysis.counts), "there must be a group for every segment")
    for group, count in zip(groups, analysis.counts, strict=True):
        number = count.number
        uid = tracking_uid(analysis.job.job_uid, number)
        expect(group.tracking_uid == uid, f"segment {number} has another tracking UID")
        expect(group.not_detected == (not count.found), f"presence of segment {number}")
        _check_finding(group, analysis.job.manifest.segment(number))
        _check_numbers(group, count, analysis)
        if count.found and not form.has(KEY_SLICE):
            reference = (
                SEG.sop_instance_uid(analysis.job.job_uid, form),
                (analysis.numbers_in_object[number],),
            )
            expect(group.segment == reference, f"segment {number} refers elsewhere")


def _check_numbers(group: Group, count: SegmentCount, analysis: Analysis) -> None:
    """What the manifest asks for, in its order: each with its own concept, unit and value."""
    source, number = analysis.source, count.number
    expected = [
        asked
        for asked in analysis.job.manifest.measurements
        if count.found and number in (asked.segments or (number,))
    ]
    expect(len(group.numbers) == len(expected), f"measurements of segment {number}")
    for read, asked in zip(group.numbers, expected, strict=True):
        coded = (read.concept, read.unit) == (_coded(asked.concept), _coded(asked.unit))
        expect(coded, f"a measurement of segment {number} has another meaning or unit")
        unit = asked.unit.value
        exact = volume(count.weighted(source.steps), source.voxel_volume_mm3, unit)
        allowed = abs(exact) * _VOLUME_TOLERANCE + volume(1, _ROUNDING_MM3, unit)
        expect(
            abs(read.value - exact) <= allowed,
            f"the volume of segment {number} is not that of its voxels",
        )
        _check_interval(read, count, exact, asked, analysis, allowed)


def _check_interval(
    read: Number,
    count: SegmentCount,
    exact: float,
    asked: VolumeMeasurement,
    analysis: Analysis,
    allowed: float,
) -> None:
    """How far below and above the volume lies what the members alone find, in the volume's unit."""
    numbers = analysis.job.numbers.get(asked.interval or "")
    interval = numbers and interval_of(numbers, count.number, exact, asked.unit.value)
    distances = (exact - interval[0], interval[1] - exact) if interval else (None, None)
    for said, distance in zip((read.below, read.above), distances, strict=True):
        if said is None or distance is None:
            expect(said is distance is None, f"interval of segment {count.number}")
            continue
        right = said.unit == read.unit and abs(said.value - distance) <= 3 * allowed
        expect(right, f"the interval of segment {count.number} is not that of the members")


def _check_finding(group: Group, segment: Segment) -> None:
    """The finding is the segment's type; its site is a place, and only of a structure itself."""
    coded = group.findings == (_coded(segment.type),) and group.sites == (_coded(segment.site),)
    expect(coded, f"finding or site of segment {segment.number}")
    is_place = segment.is_anatomical or group.sites != group.findings
    expect(is_place, f"segment {segment.number} lies in itself")


def _coded(code: Code) -> CodeRead:
    return code.scheme, code.value

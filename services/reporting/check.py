"""The checks that every object passes before it may leave.

Objects are read back from the store as a receiver would read them, with pydicom alone, not with
what wrote them: the SEG's pixels are unpacked and compared with the labels voxel for voxel at
the place that each frame claims, the SR's numbers are computed anew from the SEG's own voxels.
A problem is a sentence without patient data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian

from services.common.identity import IMPLEMENTATION_CLASS_UID
from services.reporting.analysis import Analysis
from services.reporting.measure import SegmentCount, volume
from services.reporting.modules import PATIENT_AND_STUDY, raw_bytes
from services.reporting.naming import (
    Form,
    Kind,
    series_uid,
    sop_instance_uid,
    tracking_uid,
)
from services.reporting.packing import needs_pad
from services.reporting.references import (
    instances_of,
    preserved,
    slice_named,
    slices_by_reference,
)
from services.reporting.report_reading import Group, read_groups
from services.reporting.source import SourceSeries

# Relative: decimal strings of 16 characters keep some fourteen digits; far below one voxel in
# the largest volume, so that no count is mistaken for another.
_VOLUME_TOLERANCE = 1e-8
# Absolute part: values are rounded to a thousandth of a cubic millimetre.
_ROUNDING_MM3 = 1e-3
# Frames without voxels that may be needed for an even length (see `packing`).
_MOST_EMPTY = 15


# What reading a data set that lacks something, or holds something else, raises.
_UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError, InvalidDicomError)


class _Problem(Exception):
    """What is wrong; leaves this module as a sentence only."""


def check_segmentation(file: Path, analysis: Analysis, form: Form) -> str | None:
    """What is wrong with a SEG file; None when nothing is."""
    return _problem(file, "segmentation", lambda dataset: _segmentation(dataset, analysis, form))


def check_report(file: Path, analysis: Analysis, form: Form) -> str | None:
    """What is wrong with an SR file; None when nothing is."""
    return _problem(file, "report", lambda dataset: _report(dataset, analysis, form))


def _problem(file: Path, name: str, check: Callable[[pydicom.FileDataset], None]) -> str | None:
    try:
        check(pydicom.dcmread(file))
    except _Problem as problem:
        return str(problem)
    except _UNREADABLE as error:
        return f"it cannot be read back as a {name} ({type(error).__name__})"
    return None


def _segmentation(dataset: pydicom.FileDataset, analysis: Analysis, form: Form) -> None:
    _check_identity(dataset, analysis, Kind.SEG, form)
    _check_references(dataset, analysis.source)
    _check_grid(dataset, analysis.source)
    _check_segments(dataset, analysis)
    _check_frames(dataset, analysis, form)


def _report(dataset: pydicom.FileDataset, analysis: Analysis, form: Form) -> None:
    _check_identity(dataset, analysis, Kind.SR, form)
    _check_document(dataset, analysis)
    _check_evidence(dataset, analysis, form)
    _check_groups(read_groups(dataset), analysis, form)


def _fail(problem: str) -> NoReturn:
    raise _Problem(problem)


def _expect(condition: bool, problem: str) -> None:
    if not condition:
        _fail(problem)


def _check_identity(
    dataset: pydicom.FileDataset, analysis: Analysis, kind: Kind, form: Form
) -> None:
    """Patient and study as the source's, byte for byte; UIDs as they derive from the job."""
    for keyword in ("SpecificCharacterSet", *PATIENT_AND_STUDY):
        _check_copied(dataset, analysis.source.first, keyword)
    job, name = analysis.job, form.name(kind)
    expected = {
        "SOPClassUID": kind.sop_class_uid,
        "SOPInstanceUID": sop_instance_uid(job.job_uid, kind, name),
        "SeriesInstanceUID": series_uid(job.job_uid, kind, name),
        "StudyInstanceUID": job.study_uid,
        "Modality": kind.value,
    }
    for keyword, value in expected.items():
        _expect(dataset.get(keyword) == value, f"{keyword} is not the job's")
    meta = dataset.file_meta
    _expect(meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID, "the file names another UID")
    _expect(meta.TransferSyntaxUID == ExplicitVRLittleEndian, "wrong transfer syntax")
    _expect(meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID, "foreign implementation UID")
    for keyword in ("SeriesNumber", "SeriesDescription", "ContentDate", "TimezoneOffsetFromUTC"):
        _expect(bool(dataset.get(keyword)), f"{keyword} is empty")


def _check_copied(dataset: Dataset, source: Dataset, keyword: str) -> None:
    if keyword not in source:
        return
    original = source.get_item(keyword)
    if not isinstance(original, RawDataElement) or not original.is_little_endian:
        return  # its bytes mean something else in our encoding
    if (original.VR or dictionary_VR(original.tag)) in ("SQ", "UN"):
        return  # written anew
    copied = raw_bytes(dataset, keyword)
    sent = (original.value or b"").rstrip(b" \0")
    _expect(copied == sent, f"{keyword} differs from the source's")


def _check_references(dataset: Dataset, source: SourceSeries) -> None:
    """The source series first, with every instance (R-8); the same frame of reference (R-10)."""
    first = source.headers[0]
    _expect(
        dataset.FrameOfReferenceUID == first.text("FrameOfReferenceUID"),
        "another frame of reference than the source's",
    )
    series = dataset.ReferencedSeriesSequence[0]
    _expect(series.SeriesInstanceUID == first.series_uid, "refers to another series first")
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    wanted = {header.sop_instance_uid for header in source.headers}
    _expect(
        len(named) == len(wanted) and set(named) == wanted,
        f"refers to {len(named)} instances, the source has {len(wanted)}",
    )


def _check_grid(dataset: Dataset, source: SourceSeries) -> None:
    """Rows, columns, orientation and spacings are the source's, digit for digit."""
    _expect((dataset.Rows, dataset.Columns) == source.shape[1:], "rows or columns differ")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    first = source.headers[0].attributes
    orientation = shared.PlaneOrientationSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    copied = [(orientation, "ImageOrientationPatient"), (measures, "PixelSpacing")]
    if source.slice_thickness_mm is not None:
        copied.append((measures, "SliceThickness"))
    for item, keyword in copied:
        if keyword in first:
            _expect(_digits(item, keyword) == _sent(first[keyword]), f"{keyword} differs")
    spacing = float(measures.SpacingBetweenSlices)
    _expect(
        abs(spacing - source.slice_spacing_mm) <= _VOLUME_TOLERANCE * source.slice_spacing_mm,
        "SpacingBetweenSlices is not the distance of the slices",
    )


def _check_segments(dataset: Dataset, analysis: Analysis) -> None:
    """Numbered 1..N without gaps, one for each segment found, coded as the manifest says."""
    job, numbers = analysis.job, analysis.numbers_in_object
    described = list(dataset.SegmentSequence)
    _expect(
        [item.SegmentNumber for item in described] == list(numbers.values()),
        "segments are not numbered 1..N",
    )
    for item, number in zip(described, numbers, strict=True):
        segment = job.manifest.segment(number)
        _expect(item.TrackingUID == tracking_uid(job.job_uid, number), "wrong tracking UID")
        for sequence, code in (
            (item.SegmentedPropertyCategoryCodeSequence, segment.category),
            (item.SegmentedPropertyTypeCodeSequence, segment.type),
        ):
            written = (sequence[0].CodingSchemeDesignator, sequence[0].CodeValue)
            _expect(written == (code.scheme, code.value), f"segment {number} is coded wrongly")
        colour = tuple(item.RecommendedDisplayCIELabValue)
        _expect(colour == segment.colour_cielab, f"segment {number} has another colour")


def _check_frames(dataset: Dataset, analysis: Analysis, form: Form) -> None:
    """Every voxel of every frame is the labels' at the place and segment that the frame names."""
    labels, numbers = analysis.labels, analysis.numbers_in_object
    in_manifest = {place: number for number, place in numbers.items()}
    needed = {
        (numbers[count.number], k)
        for count in analysis.counts
        if count.found
        for k in range(len(labels))
        if form.keep_empty_frames or count.voxels[k]
    }
    order: list[tuple[int, int]] = []
    for place, k, pixels in _frames(dataset, analysis.source):
        order.append((place, k))
        if not np.array_equal(pixels, labels[k] == in_manifest.get(place, 0)):
            _fail(f"the frame of segment {place} on slice {k} differs from the labels")
    in_order = order == sorted(set(order)) and needed <= set(order)
    _expect(in_order, "frames are missing, repeated or out of order")
    # What has no voxel is there only to make the length even.
    empty = len(order) - len(needed)
    padded = needs_pad(len(needed), labels[0].size)
    _expect(empty <= (_MOST_EMPTY if padded else 0), "there are frames without a voxel")


def _frames(
    dataset: Dataset, source: SourceSeries
) -> Iterator[tuple[int, int, npt.NDArray[np.bool_]]]:
    """(segment number, slice, pixels) of every frame, found by its source instance and position."""
    slices = slices_by_reference(source)
    rows, columns = source.shape[1:]
    groups = dataset.PerFrameFunctionalGroupsSequence
    number = int(dataset.NumberOfFrames)
    _expect(len(groups) == number, "as many functional groups as frames are needed")
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    _expect(packed.size * 8 >= number * rows * columns, "there are fewer pixels than frames")
    for frame, group in zip(_unpacked(packed, number, rows, columns), groups, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = _digits(group.PlanePositionSequence[0], "ImagePositionPatient")
        k = slice_named(image, position, source, slices)
        _expect(k >= 0, "a frame names an instance that is not of the source")
        kept = image.SpatialLocationsPreserved == preserved(source.headers[k])
        _expect(kept, "a frame does not keep its place")
        sent = _sent(source.headers[k].attributes["ImagePositionPatient"])
        _expect(position == sent, f"the position on slice {k} differs from the source's")
        place = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        yield place, k, frame


def _unpacked(
    packed: npt.NDArray[np.uint8], number: int, rows: int, columns: int
) -> Iterator[npt.NDArray[np.bool_]]:
    """Unpacks `number` frames, eight at a time: those are whole bytes whatever their size."""
    for start in range(0, number, 8):
        count = min(8, number - start) * rows * columns
        begin = start * rows * columns // 8
        bits = np.unpackbits(packed[begin : begin + (count + 7) // 8], bitorder="little")
        yield from bits[:count].reshape(-1, rows, columns).view(np.bool_)


def _check_document(dataset: Dataset, analysis: Analysis) -> None:
    """Title, template and flags that viewers and archives look for (S-2, S-3, S-22)."""
    completion = "PARTIAL" if analysis.job.incomplete else "COMPLETE"
    title = dataset.ConceptNameCodeSequence[0]
    _expect(
        (title.CodeValue, title.CodingSchemeDesignator) == ("126000", "DCM"), "wrong report title"
    )
    template = dataset.ContentTemplateSequence[0]
    _expect(
        (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500"),
        "the template is not TID 1500",
    )
    _expect(
        (dataset.CompletionFlag, dataset.VerificationFlag) == (completion, "UNVERIFIED"),
        "completion or verification flag",
    )


def _check_evidence(dataset: Dataset, analysis: Analysis, form: Form) -> None:
    """The image series first, with every instance, then the SEG (S-12, S-13)."""
    job, name = analysis.job, form.name(Kind.SEG)
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence
    _expect(len(evidence) == 1, "evidence of one study is expected")
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
        seg = sop_instance_uid(job.job_uid, Kind.SEG, name)
        wanted.append((series_uid(job.job_uid, Kind.SEG, name), [seg]))
    _expect(series == wanted, "evidence is not the image series and then the segmentation")


def _check_groups(groups: list[Group], analysis: Analysis, form: Form) -> None:
    """One group per segment; its volume is the segment's voxels times the voxel's volume."""
    _expect(len(groups) == len(analysis.counts), "there must be a group for every segment")
    for group, count in zip(groups, analysis.counts, strict=True):
        number = count.number
        uid = tracking_uid(analysis.job.job_uid, number)
        _expect(group.tracking_uid == uid, f"segment {number} has another tracking UID")
        _expect(group.not_detected == (not count.found), f"presence of segment {number}")
        _check_volumes(group, count, analysis)
        if count.found and not form.key_slice:
            name = form.name(Kind.SEG)
            reference = (
                sop_instance_uid(analysis.job.job_uid, Kind.SEG, name),
                (analysis.numbers_in_object[number],),
            )
            _expect(group.segment == reference, f"segment {number} refers elsewhere")


def _check_volumes(group: Group, count: SegmentCount, analysis: Analysis) -> None:
    expected = [value for value in analysis.values if value.segment_number == count.number]
    _expect(len(group.volumes) == len(expected), f"measurements of segment {count.number}")
    for (number, unit), value in zip(group.volumes, expected, strict=True):
        source = analysis.source
        exact = volume(count.weighted(source.steps), source.voxel_volume_mm3, unit)
        allowed = abs(exact) * _VOLUME_TOLERANCE + volume(1, _ROUNDING_MM3, unit)
        _expect(
            unit == value.unit and abs(number - exact) <= allowed,
            f"the volume of segment {count.number} is not that of its voxels",
        )


def _digits(item: Dataset, keyword: str) -> list[str]:
    return _sent((raw_bytes(item, keyword) or b"").decode("ascii", "replace").split("\\"))


def _sent(value: str | list[str] | None) -> list[str]:
    texts = value if isinstance(value, list) else [value or ""]
    return [text.strip() for text in texts]

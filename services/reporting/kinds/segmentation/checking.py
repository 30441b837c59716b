"""The check of a SEG: its pixels are unpacked and compared with the labels, voxel for voxel.

Every frame is compared at the place that it claims itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from services.reporting.analysis.analysis import Analysis
from services.reporting.kinds.segmentation.names import KEEP_EMPTY_FRAMES, SEG
from services.reporting.kinds.segmentation.packing import needs_pad
from services.reporting.objects.checking import check_identity, expect, fail, problem_of
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import tracking_uid
from services.reporting.source.modules import raw_bytes
from services.reporting.source.references import preserved, slice_named, slices_by_reference
from services.reporting.source.series import SourceSeries

# Relative: decimal strings of 16 characters keep some fourteen digits.
_SPACING_TOLERANCE = 1e-8
# Frames without voxels that may be needed for an even length (see `packing`).
_MOST_EMPTY = 15


def check_segmentation(file: Path, analysis: Analysis, form: Form) -> str | None:
    """What is wrong with a SEG file; None when nothing is."""
    return problem_of(file, "segmentation", lambda dataset: _segmentation(dataset, analysis, form))


def _segmentation(dataset: pydicom.FileDataset, analysis: Analysis, form: Form) -> None:
    check_identity(dataset, analysis, SEG, form)
    _check_references(dataset, analysis.source)
    _check_grid(dataset, analysis.source)
    _check_segments(dataset, analysis)
    _check_frames(dataset, analysis, form)


def _check_references(dataset: Dataset, source: SourceSeries) -> None:
    """The source series first, with every instance (R-8); the same frame of reference (R-10)."""
    first = source.headers[0]
    expect(
        dataset.FrameOfReferenceUID == first.text("FrameOfReferenceUID"),
        "another frame of reference than the source's",
    )
    series = dataset.ReferencedSeriesSequence[0]
    expect(series.SeriesInstanceUID == first.series_uid, "refers to another series first")
    named = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    wanted = {header.sop_instance_uid for header in source.headers}
    expect(
        len(named) == len(wanted) and set(named) == wanted,
        f"refers to {len(named)} instances, the source has {len(wanted)}",
    )


def _check_grid(dataset: Dataset, source: SourceSeries) -> None:
    """Rows, columns, orientation and spacings are the source's, digit for digit."""
    expect((dataset.Rows, dataset.Columns) == source.shape[1:], "rows or columns differ")
    shared = dataset.SharedFunctionalGroupsSequence[0]
    first = source.headers[0].attributes
    orientation = shared.PlaneOrientationSequence[0]
    measures = shared.PixelMeasuresSequence[0]
    copied = [(orientation, "ImageOrientationPatient"), (measures, "PixelSpacing")]
    if source.slice_thickness_mm is not None:
        copied.append((measures, "SliceThickness"))
    for item, keyword in copied:
        if keyword in first:
            expect(_digits(item, keyword) == _sent(first[keyword]), f"{keyword} differs")
    spacing = float(measures.SpacingBetweenSlices)
    expect(
        abs(spacing - source.slice_spacing_mm) <= _SPACING_TOLERANCE * source.slice_spacing_mm,
        "SpacingBetweenSlices is not the distance of the slices",
    )


def _check_segments(dataset: Dataset, analysis: Analysis) -> None:
    """Numbered 1..N without gaps, one for each segment found, coded as the manifest says."""
    job, numbers = analysis.job, analysis.numbers_in_object
    described = list(dataset.SegmentSequence)
    expect(
        [item.SegmentNumber for item in described] == list(numbers.values()),
        "segments are not numbered 1..N",
    )
    for item, number in zip(described, numbers, strict=True):
        segment = job.manifest.segment(number)
        expect(item.TrackingUID == tracking_uid(job.job_uid, number), "wrong tracking UID")
        for sequence, code in (
            (item.SegmentedPropertyCategoryCodeSequence, segment.category),
            (item.SegmentedPropertyTypeCodeSequence, segment.type),
        ):
            written = (sequence[0].CodingSchemeDesignator, sequence[0].CodeValue)
            expect(written == (code.scheme, code.value), f"segment {number} is coded wrongly")
        colour = tuple(item.RecommendedDisplayCIELabValue)
        expect(colour == segment.colour_cielab, f"segment {number} has another colour")


def _check_frames(dataset: Dataset, analysis: Analysis, form: Form) -> None:
    """Every voxel of every frame is the labels' at the place and segment that the frame names."""
    labels, numbers = analysis.labels, analysis.numbers_in_object
    in_manifest = {place: number for number, place in numbers.items()}
    needed = {
        (numbers[count.number], k)
        for count in analysis.counts
        if count.found
        for k in range(len(labels))
        if form.has(KEEP_EMPTY_FRAMES) or count.voxels[k]
    }
    order: list[tuple[int, int]] = []
    for place, k, pixels in _frames(dataset, analysis.source):
        order.append((place, k))
        if not np.array_equal(pixels, labels[k] == in_manifest.get(place, 0)):
            fail(f"the frame of segment {place} on slice {k} differs from the labels")
    in_order = order == sorted(set(order)) and needed <= set(order)
    expect(in_order, "frames are missing, repeated or out of order")
    # What has no voxel is there only to make the length even.
    empty = len(order) - len(needed)
    padded = needs_pad(len(needed), labels[0].size)
    expect(empty <= (_MOST_EMPTY if padded else 0), "there are frames without a voxel")


def _frames(
    dataset: Dataset, source: SourceSeries
) -> Iterator[tuple[int, int, npt.NDArray[np.bool_]]]:
    """(segment number, slice, pixels) of every frame, found by its source instance and position."""
    slices = slices_by_reference(source)
    rows, columns = source.shape[1:]
    groups = dataset.PerFrameFunctionalGroupsSequence
    number = int(dataset.NumberOfFrames)
    expect(len(groups) == number, "as many functional groups as frames are needed")
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    bits = number * rows * columns
    expect(packed.size == (bits + 15) // 16 * 2, "there are more or fewer pixels than frames")
    padding = np.unpackbits(packed[bits // 8 :], bitorder="little")[bits % 8 :]
    expect(not padding.any(), "the bits behind the last frame are not empty")
    for frame, group in zip(_unpacked(packed, number, rows, columns), groups, strict=True):
        image = group.DerivationImageSequence[0].SourceImageSequence[0]
        position = _digits(group.PlanePositionSequence[0], "ImagePositionPatient")
        k = slice_named(image, position, source, slices)
        expect(k >= 0, "a frame names an instance that is not of the source")
        kept = image.SpatialLocationsPreserved == preserved(source.headers[k])
        expect(kept, "a frame does not keep its place")
        sent = _sent(source.headers[k].attributes["ImagePositionPatient"])
        expect(position == sent, f"the position on slice {k} differs from the source's")
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


def _digits(item: Dataset, keyword: str) -> list[str]:
    return _sent((raw_bytes(item, keyword) or b"").decode("ascii", "replace").split("\\"))


def _sent(value: str | list[str] | None) -> list[str]:
    texts = value if isinstance(value, list) else [value or ""]
    return [text.strip() for text in texts]

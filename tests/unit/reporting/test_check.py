"""The judge finds every fault that is put into an object on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.segmentation.checking import check_segmentation
from services.reporting.objects.forms import PLAIN
from tests.unit.reporting.conftest import Written
from tests.unit.reporting.reading import groups, items, named

Fault = Callable[[Any], None]


def shared(dataset: Dataset) -> Dataset:
    """The shared functional groups."""
    return dataset.SharedFunctionalGroupsSequence[0]


def frame(dataset: Dataset, n: int = 0) -> Dataset:
    """The functional groups of frame n."""
    return dataset.PerFrameFunctionalGroupsSequence[n]


def flip_one_bit(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[3] ^= 0b100
    dataset.PixelData = bytes(pixels)


def lose_the_last_frame(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.NumberOfFrames = int(dataset.NumberOfFrames) - 1


def swap_two_frames(dataset: Dataset) -> None:
    groups_ = dataset.PerFrameFunctionalGroupsSequence
    groups_[0], groups_[1] = groups_[1], groups_[0]


def move_a_frame(dataset: Dataset) -> None:
    position = frame(dataset).PlanePositionSequence[0]
    x, y, z = map(str, position.ImagePositionPatient)
    position.ImagePositionPatient = [x, y, f"{float(z) + 1e-6:.9f}"]


def exchange_source_instances(dataset: Dataset) -> None:
    first = frame(dataset, 0).DerivationImageSequence[0].SourceImageSequence[0]
    second = frame(dataset, 1).DerivationImageSequence[0].SourceImageSequence[0]
    first.ReferencedSOPInstanceUID, second.ReferencedSOPInstanceUID = (
        second.ReferencedSOPInstanceUID,
        first.ReferencedSOPInstanceUID,
    )


def exchange_segments(dataset: Dataset) -> None:
    one, two = dataset.SegmentSequence
    one.SegmentNumber, two.SegmentNumber = 2, 1


def two_bytes_too_many(dataset: Dataset) -> None:
    dataset.PixelData = bytes(dataset.PixelData) + bytes(2)


SEGMENTATION_FAULTS: dict[str, Fault] = {
    "pixels behind the last frame": two_bytes_too_many,
    "pixels": flip_one_bit,
    "frame lost": lose_the_last_frame,
    "frames swapped": swap_two_frames,
    "position": move_a_frame,
    "source instances": exchange_source_instances,
    "segments": exchange_segments,
    "frame group without pixels": lambda d: d.PerFrameFunctionalGroupsSequence.append(frame(d)),
    "place not kept": lambda d: setattr(
        frame(d).DerivationImageSequence[0].SourceImageSequence[0], "SpatialLocationsPreserved",
        "NO",
    ),
    "orientation": lambda d: setattr(
        shared(d).PlaneOrientationSequence[0], "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]
    ),
    "spacing": lambda d: setattr(shared(d).PixelMeasuresSequence[0], "PixelSpacing", [1, 1]),
    "slice distance": lambda d: setattr(
        shared(d).PixelMeasuresSequence[0], "SpacingBetweenSlices", "2.51"
    ),
    "frame of reference": lambda d: setattr(d, "FrameOfReferenceUID", "1.2.3"),
    "instances missing": lambda d: d.ReferencedSeriesSequence[0].ReferencedInstanceSequence.pop(),
    "other series first": lambda d: setattr(
        d.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2.3"
    ),
    "no references": lambda d: d.pop("ReferencedSeriesSequence"),
    "patient": lambda d: setattr(d, "PatientID", "SOMEBODY ELSE"),
    "study": lambda d: setattr(d, "StudyInstanceUID", "1.2.3"),
    "accession": lambda d: setattr(d, "AccessionNumber", "B2"),
    "birth date": lambda d: setattr(d, "PatientBirthDate", ""),
    "series": lambda d: setattr(d, "SeriesInstanceUID", "1.2.3"),
    "code": lambda d: setattr(
        d.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0], "CodeValue", "69536005"
    ),
    "colour": lambda d: setattr(
        d.SegmentSequence[1], "RecommendedDisplayCIELabValue", [1, 2, 3]
    ),
    "tracking": lambda d: setattr(d.SegmentSequence[0], "TrackingUID", "1.2.3"),
    "description": lambda d: setattr(d, "SeriesDescription", ""),
    "time zone": lambda d: d.pop("TimezoneOffsetFromUTC"),
    "implementation": lambda d: setattr(d.file_meta, "ImplementationClassUID", "1.2.3"),
}  # fmt: skip


def measured(dataset: Dataset) -> Dataset:
    """The value of the first measurement."""
    return named(groups(dataset)[0], "118565006")[0].MeasuredValueSequence[0]


def segment_of(dataset: Dataset) -> Dataset:
    """The first reference to a segment."""
    return named(groups(dataset)[0], "121191")[0].ReferencedSOPSequence[0]


def evidence(dataset: Dataset) -> Any:
    """The series of the evidence."""
    return dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence


def drop(parent: Dataset, code: str) -> None:
    """Takes content items out."""
    parent.ContentSequence = [item for item in items(parent) if item not in named(parent, code)]


REPORT_FAULTS: dict[str, Fault] = {
    "volume": lambda d: setattr(measured(d), "NumericValue", "0.05"),
    "unit": lambda d: setattr(
        measured(d).MeasurementUnitsCodeSequence[0], "CodeValue", "mm3"
    ),
    "volume missing": lambda d: drop(groups(d)[0], "118565006"),
    "group missing": lambda d: named(d, "126010")[0].ContentSequence.pop(),
    "not found unsaid": lambda d: drop(groups(d)[1], "121052"),
    "found denied": lambda d: groups(d)[0].ContentSequence.append(named(groups(d)[1], "121052")[0]),
    "segment number": lambda d: setattr(segment_of(d), "ReferencedSegmentNumber", 2),
    "segmentation": lambda d: setattr(segment_of(d), "ReferencedSOPInstanceUID", "1.2.3"),
    "tracking": lambda d: setattr(items(groups(d)[0])[1], "UID", "1.2.3"),
    "title": lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeValue", "126001"),
    "template": lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "1501"),
    "partial": lambda d: setattr(d, "CompletionFlag", "PARTIAL"),
    "verified": lambda d: setattr(d, "VerificationFlag", "VERIFIED"),
    "evidence order": lambda d: evidence(d).reverse(),
    "evidence incomplete": lambda d: evidence(d)[0].ReferencedSOPSequence.pop(),
    "patient": lambda d: setattr(d, "PatientName", "Somebody^Else"),
    "instance": lambda d: setattr(d, "SOPInstanceUID", "1.2.3"),
    "no content": lambda d: d.pop("ContentSequence"),
}  # fmt: skip


def test_sound_objects_pass(several: Written, tmp_path: Path) -> None:
    for content, check in (
        (several.segmentation, check_segmentation),
        (several.report, check_report),
    ):
        file = tmp_path / "object.dcm"
        file.write_bytes(content)
        assert check(file, several.analysis, PLAIN) is None


@pytest.mark.parametrize("fault", SEGMENTATION_FAULTS)
def test_a_faulty_segmentation_is_found(several: Written, tmp_path: Path, fault: str) -> None:
    dataset = several.seg()
    SEGMENTATION_FAULTS[fault](dataset)
    file = tmp_path / "seg.dcm"
    dataset.save_as(file)
    assert check_segmentation(file, several.analysis, PLAIN)


@pytest.mark.parametrize("fault", REPORT_FAULTS)
def test_a_faulty_report_is_found(several: Written, tmp_path: Path, fault: str) -> None:
    dataset = several.sr()
    REPORT_FAULTS[fault](dataset)
    file = tmp_path / "sr.dcm"
    dataset.save_as(file)
    assert check_report(file, several.analysis, PLAIN)


def test_labels_that_changed_after_writing_are_found(several: Written, tmp_path: Path) -> None:
    file = tmp_path / "seg.dcm"
    file.write_bytes(several.segmentation)
    analysis = several.analysis
    changed = np.ascontiguousarray(analysis.labels[:, :, ::-1])
    mirrored = type(analysis)(
        analysis.job, analysis.source, changed, analysis.counts, analysis.values
    )
    assert check_segmentation(file, mirrored, PLAIN)


def test_what_is_no_dicom_is_found(several: Written, tmp_path: Path) -> None:
    file = tmp_path / "seg.dcm"
    file.write_bytes(b"not DICOM at all")
    assert "cannot be read back" in (check_segmentation(file, several.analysis, PLAIN) or "")


def test_problems_hold_no_patient_data(several: Written, tmp_path: Path) -> None:
    dataset = several.seg()
    dataset.PatientName = "Secret^Name"
    dataset.PatientID = "SECRET-ID"
    file = tmp_path / "seg.dcm"
    dataset.save_as(file)
    problem = check_segmentation(file, several.analysis, PLAIN) or ""
    assert problem
    assert "ecret" not in problem.lower().replace("secretary", "")
    source = pydicom.dcmread(several.files[0])
    assert str(source.PatientName) not in problem
    assert str(source.PatientID) not in problem

"""Stand-ins of the source instances for highdicom, which wants data sets and not headers."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.valuerep import DS

from services.common.headers import InstanceHeader
from services.reporting.source.series import SourceSeries

# What highdicom reads of a source and we copy from the source's bytes afterwards.
_NOT_GIVEN = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "AccessionNumber", "StudyID", "StudyDate", "StudyTime",
)  # fmt: skip


def identity_of(header: InstanceHeader) -> Dataset:
    """A source instance's UIDs."""
    dataset = Dataset()
    dataset.SOPClassUID = header.sop_class_uid
    dataset.SOPInstanceUID = header.sop_instance_uid
    dataset.StudyInstanceUID = header.study_uid
    dataset.SeriesInstanceUID = header.series_uid
    return dataset


def stand_in(header: InstanceHeader, source: SourceSeries) -> Dataset:
    """A plane of the source as highdicom needs it: identity and geometry, no patient.

    Orientation and spacing are the first instance's throughout: the geometry gate has proven
    that those of the others differ by less than its tolerance.
    """
    first = source.headers[0]
    dataset = identity_of(header)
    dataset.FrameOfReferenceUID = header.text("FrameOfReferenceUID")
    dataset.Modality = source.modality
    dataset.Rows, dataset.Columns = source.shape[1:]
    dataset.ImagePositionPatient = list(header.numbers("ImagePositionPatient") or ())
    dataset.ImageOrientationPatient = list(first.numbers("ImageOrientationPatient") or ())
    dataset.PixelSpacing = list(first.numbers("PixelSpacing") or ())
    dataset.SliceThickness = source.slice_thickness_mm
    dataset.SpacingBetweenSlices = DS(source.slice_spacing_mm, auto_format=True)
    for keyword in _NOT_GIVEN:
        setattr(dataset, keyword, None)
    return dataset

"""What all result objects share: patient, times, equipment, file meta information."""

from __future__ import annotations

import io

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from services.common.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from services.reporting.job import Job
from services.reporting.objects.equipment import contributing_equipment
from services.reporting.objects.texts import date_text, local_time, offset_from_utc, time_text
from services.reporting.source.modules import copy_patient_and_study, keep_bytes
from services.reporting.source.series import SourceSeries


def finish(dataset: Dataset, job: Job, source: SourceSeries) -> None:
    """Adds to an object of highdicom what is the same for every kind.

    All times are the start of the analysis: so the same work twice makes the same bytes, under
    the same UID.
    """
    copy_patient_and_study(source.first, dataset)
    started = local_time(source.first, job.analysis_started)
    for name in ("Series", "Content", "InstanceCreation"):
        setattr(dataset, f"{name}Date", date_text(started))
        setattr(dataset, f"{name}Time", time_text(started))
    dataset.TimezoneOffsetFromUTC = offset_from_utc(started)
    dataset.ContributingEquipmentSequence = contributing_equipment(job, source.first, started)
    dataset.file_meta = _file_meta(dataset)


def as_file(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10), with the source's bytes where they were copied."""
    keep_bytes(dataset)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta

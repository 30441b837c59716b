"""The checks that hold for an object of every kind.

Objects are read back from the store as a receiver would read them, with pydicom alone, not with
what wrote them. A problem is a sentence without patient data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian

from services.common.identity import IMPLEMENTATION_CLASS_UID
from services.common.telemetry import get_logger
from services.reporting.analysis.analysis import Analysis
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import ObjectNames
from services.reporting.source.modules import PATIENT_AND_STUDY, raw_bytes

_log = get_logger("reporting")

# What reading a data set that lacks something, or holds something else, raises.
_UNREADABLE = (AttributeError, IndexError, KeyError, TypeError, ValueError, InvalidDicomError)


class Problem(Exception):
    """What is wrong with an object; leaves `problem_of` as a sentence only."""


def problem_of(file: Path, name: str, check: Callable[[pydicom.FileDataset], None]) -> str | None:
    """What `check` finds wrong with a file, as a sentence; None when nothing is."""
    try:
        check(pydicom.dcmread(file))
    except Problem as problem:
        return str(problem)
    except _UNREADABLE as error:
        _log.error("object_not_read_back", object=name, kind=type(error).__name__)
        return f"it cannot be read back as a {name}"
    return None


def fail(problem: str) -> NoReturn:
    """Says what is wrong.

    Raises:
        Problem: always.
    """
    raise Problem(problem)


def expect(condition: bool, problem: str) -> None:
    """Says what is wrong unless a condition holds.

    Raises:
        Problem: the condition does not hold.
    """
    if not condition:
        fail(problem)


def check_identity(
    dataset: pydicom.FileDataset, analysis: Analysis, names: ObjectNames, form: Form
) -> None:
    """Patient and study as the source's, byte for byte; UIDs as they derive from the job."""
    for keyword in ("SpecificCharacterSet", *PATIENT_AND_STUDY):
        _check_copied(dataset, analysis.source.first, keyword)
    job = analysis.job
    expected = {
        "SOPClassUID": names.sop_class_uid,
        "SOPInstanceUID": names.sop_instance_uid(job.job_uid, form),
        "SeriesInstanceUID": names.series_uid(job.job_uid, form),
        "StudyInstanceUID": job.study_uid,
        "Modality": names.modality,
    }
    for keyword, value in expected.items():
        expect(dataset.get(keyword) == value, f"{keyword} is not the job's")
    meta = dataset.file_meta
    expect(meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID, "the file names another UID")
    expect(meta.TransferSyntaxUID == ExplicitVRLittleEndian, "wrong transfer syntax")
    expect(meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID, "foreign implementation UID")
    for keyword in ("SeriesNumber", "SeriesDescription", "ContentDate", "TimezoneOffsetFromUTC"):
        expect(bool(dataset.get(keyword)), f"{keyword} is empty")


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
    expect(copied == sent, f"{keyword} differs from the source's")

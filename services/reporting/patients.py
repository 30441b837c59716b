"""Whether the images of a series are of one patient.

Only the first image's patient is copied into an object. Where another image names another
patient, whose the result is cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from services.common.stored_objects import read_until

_IDENTITY = ("PatientID", "PatientName", "PatientBirthDate")
_LAST = max(Tag(keyword) for keyword in _IDENTITY)


def of_several_patients(files: Iterable[Path]) -> bool:
    """Whether two of the files name different patients.

    An attribute that is absent or empty differs from none. Each file is read as far as the
    patient's attributes, some dozen elements in.

    Raises:
        StoredObjectError: one is no sound DICOM object.
    """
    named: dict[str, bytes] = {}
    for file in files:
        dataset = read_until(file, _LAST, list(map(Tag, _IDENTITY)))
        for keyword in _IDENTITY:
            value = _sent(dataset, keyword)
            if value and named.setdefault(keyword, value) != value:
                return True
    return False


def _sent(dataset: Dataset, keyword: str) -> bytes:
    """The value's bytes without what pads it, and without components of a name that are empty."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    value = element.value if isinstance(element, RawDataElement) else None
    return (value or b"").strip(b" \0^=")

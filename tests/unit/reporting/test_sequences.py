"""What is written as bytes is what pydicom writes."""

from __future__ import annotations

import warnings

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from services.reporting.objects.sequences import element, item_of, put_sequence


def written(dataset: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = False
    buffer.is_little_endian = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's word about the VR that it changes
        write_dataset(buffer, dataset)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ReferencedSOPInstanceUID", "1.2.3"),
        ("ReferencedSOPInstanceUID", "1.2.34"),
        ("SpatialLocationsPreserved", "YES"),
        ("ReferencedFrameNumber", "\\".join(map(str, range(1, 11_000)))),  # below 64 KB
        ("ReferencedFrameNumber", "\\".join(map(str, range(1, 20_000)))),  # above
        ("TrackingID", "of a VR that always has a long length"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_an_element_is_pydicoms(keyword: str, value: str) -> None:
    dataset = Dataset()
    setattr(dataset, keyword, value.split("\\") if "\\" in value else value)
    assert element(keyword, value) == written(dataset)


def test_a_data_set_with_such_a_sequence_can_be_an_item_of_another() -> None:
    plain, raw = Dataset(), Dataset()
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    plain.ReferencedSOPSequence = [inner]
    put_sequence(raw, "ReferencedSOPSequence", [item_of(inner)])
    assert item_of(raw) == item_of(plain)

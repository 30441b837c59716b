"""The beginning of a DICOM file: read from as many bytes as have come, and only then."""

from __future__ import annotations

import io
import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from services.common.part10_head import MAX_HEAD_BYTES, HeadError, Part10Head, read_head

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def dicom_file(syntax: str = EXPLICIT, private_bytes: int = 0) -> bytes:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = UID(CT), UID("1.2.3.4")
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    if private_bytes:
        data.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
        data.file_meta.PrivateInformation = bytes(private_bytes)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def data_set_at(file: bytes) -> int:
    return 144 + int.from_bytes(file[140:144], "little")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, "1.2.840.10008.1.2.1.99"])
def test_a_head_is_read_as_soon_as_it_is_whole_and_no_sooner(syntax: str) -> None:
    file = dicom_file(syntax)
    at = data_set_at(file)
    expected = Part10Head(CT, "1.2.3.4", syntax, at)
    for length in range(len(file) + 1):
        found = read_head(file[:length])
        assert found == (expected if length >= at else None)
    assert read_head(file[:at], complete=True) == expected


def test_a_file_that_ends_within_its_meta_information_has_no_data_set() -> None:
    file = dicom_file()
    for length in range(data_set_at(file)):
        try:
            found = read_head(file[:length], complete=True)
        except HeadError:
            continue
        assert found is not None  # it ends behind an element: there may be a data set of no bytes
        assert found.data_set_at == length


@pytest.mark.parametrize("told", [0, 1, 50, 10_000])
def test_a_wrong_group_length_does_not_matter(told: int) -> None:
    file = dicom_file()
    at = data_set_at(file)
    wrong = file[:140] + struct.pack("<I", told) + file[144:]
    assert read_head(wrong) == Part10Head(CT, "1.2.3.4", EXPLICIT, at)


def test_no_group_length_does_not_matter() -> None:
    file = dicom_file()
    found = read_head(file[:132] + file[144:])
    assert found == Part10Head(CT, "1.2.3.4", EXPLICIT, data_set_at(file) - 12)


def test_a_deflated_data_set_that_looks_like_meta_information_is_not_mistaken_for_it() -> None:
    file = dicom_file()
    at = data_set_at(file)
    found = read_head(file[:at] + b"\x02\x00\x99\x99UI\x04\x00abcd")
    assert found is not None
    assert found.data_set_at == at


def test_large_private_information_is_passed_over() -> None:
    file = dicom_file(private_bytes=100_000)
    found = read_head(file)
    assert found is not None
    assert found.data_set_at == data_set_at(file)


@pytest.mark.parametrize(
    "content",
    [
        bytes(200),
        b"x" * 200,
        bytes(128) + b"DICN" + bytes(100),
        bytes(128) + b"DICM" + b"\x08\x00\x16\x00UI\x04\x001.2\0",
        bytes(128) + b"DICM" + b"\x02\x00\x10\x00UI\x04\x00a.b\0" + bytes(4),
        bytes(128) + b"DICM" + b"\x02\x00\x02\x01OB\x00\x00\xff\xff\xff\xff",
    ],
)
def test_what_is_no_dicom_file(content: bytes) -> None:
    with pytest.raises(HeadError):
        read_head(content)


def test_a_head_that_never_ends_is_given_up() -> None:
    element = b"\x02\x00\x02\x01OB\x00\x00" + struct.pack("<I", 1000) + bytes(1000)
    with pytest.raises(HeadError, match="too long"):
        read_head(bytes(128) + b"DICM" + element * (MAX_HEAD_BYTES // 1000))


@given(st.binary(max_size=120), st.booleans())
def test_any_bytes_are_a_head_or_an_error_or_too_few(tail: bytes, complete: bool) -> None:
    try:
        found = read_head(bytes(128) + b"DICM" + tail, complete=complete)
    except HeadError:
        return
    assert not complete or found is not None

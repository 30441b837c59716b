"""A data set in another transfer syntax: read by its file's head, whatever it says of itself."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from services.common import stored_objects
from services.common.errors import TranscodingError
from services.common.transcoding import ALTERNATIVES, IMPLICIT, data_set_in
from tests.builders.series import sound_series

PAIRS = [(own, other) for own, others in ALTERNATIVES.items() for other in others]
NAMES = [f"{UID(own).keyword} to {UID(other).keyword}" for own, other in PAIRS]
# What a sender may have left in front of its data set as that one's transfer syntax.
CLAIMS = [*map(str, AllTransferSyntaxes), "1.2.3.not.a.syntax", ""]


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def _own_meta(claim: str) -> bytes:
    meta = _element(0x0010, b"UI", claim.encode()) + _element(0x0012, b"UI", b"1.2.3")
    return _element(0, b"UL", struct.pack("<I", len(meta))) + meta


def _encoded(data: Dataset, *, implicit: bool) -> bytes:
    out = BytesIO()
    bare = Dataset(data)
    pydicom.dcmwrite(out, bare, implicit_vr=implicit, little_endian=True)
    return out.getvalue()


def _file(data: Dataset, syntax: str, front: bytes = b"") -> bytes:
    """The data set behind a head of this transfer syntax, with elements in front of it."""
    head = BytesIO()
    empty = pydicom.FileDataset(head, {}, file_meta=data.file_meta, preamble=bytes(128))
    empty.file_meta.TransferSyntaxUID = UID(syntax)
    pydicom.dcmwrite(head, empty, enforce_file_format=True, overwrite=True)
    length = int.from_bytes(head.getvalue()[140:144], "little")
    body = front + _encoded(data, implicit=syntax == ImplicitVRLittleEndian)
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = packer.compress(body) + packer.flush()
    return head.getvalue()[: 144 + length] + body


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    (file, *_) = sound_series(tmp_path_factory.mktemp("series"))
    return pydicom.dcmread(file)


@pytest.mark.parametrize(("own", "other"), PAIRS, ids=NAMES)
def test_what_a_data_set_says_of_its_syntax_changes_nothing(
    data: Dataset, own: str, other: str, tmp_path: Path
) -> None:
    honest = data_set_in(_file(data, own), other)
    assert honest == _encoded(data, implicit=other == IMPLICIT)
    file = tmp_path / "lying.dcm"
    for claim in CLAIMS:
        file.write_bytes(_file(data, own, _own_meta(claim)))
        assert data_set_in(file, other) == honest, claim
        assert data_set_in(file.read_bytes(), other) == honest, claim


def test_what_does_not_inflate_or_inflates_to_too_much_is_said(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    deflated = _file(data, DeflatedExplicitVRLittleEndian)
    with pytest.raises(TranscodingError, match="does not inflate"):
        data_set_in(deflated[:-20], IMPLICIT)
    monkeypatch.setattr(stored_objects, "_MOST_INFLATED", 1000)
    with pytest.raises(TranscodingError, match="inflates to more than 1000 bytes"):
        data_set_in(deflated, IMPLICIT)


def test_what_cannot_be_read_or_written_is_said_without_the_librarys_words(data: Dataset) -> None:
    with pytest.raises(TranscodingError, match="it is no DICOM file"):
        data_set_in(b"no file", IMPLICIT)
    # Three bytes are no number: the library reads them, and cannot write them.
    broken = _file(
        data, str(ExplicitVRLittleEndian), struct.pack("<HH2sH", 8, 1, b"US", 3) + b"abc"
    )
    with pytest.raises(TranscodingError, match="does not hold what its VR says"):
        data_set_in(broken, IMPLICIT)

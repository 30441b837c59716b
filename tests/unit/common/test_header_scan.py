"""The scanner of heads, with pydicom as the oracle on every file there is."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from services.common.header_scan import (
    EXPLICIT_BIG,
    IMPLICIT_LITTLE,
    ScanError,
    Scheme,
    TruncatedError,
    scan,
)
from services.common.headers import HeaderError, read_registration, scheme

SCHEME = scheme()
EXPLICIT = "1.2.840.10008.1.2.1"


def part10_files() -> list[Path]:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(path for path in folder.rglob("*.dcm") if path.read_bytes()[128:132] == b"DICM")


def compare(content: bytes) -> bool:
    """Compares both readers on a file; False when neither can read it."""
    data_set_at = 144 + int.from_bytes(content[140:144], "little")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = read_registration(content)
    except HeaderError:
        return False
    syntax = expected.header.transfer_syntax_uid
    found = scan(content[data_set_at:], syntax, SCHEME, complete=True)
    if found.needs_library:
        return True
    assert found.picked(SCHEME.header) == _stripped(expected.header.attributes)
    assert found.picked(SCHEME.study) == _stripped(expected.study_attributes)
    assert found.picked(SCHEME.series) == _stripped(expected.series_attributes)
    offset = expected.header.pixel_offset
    assert found.pixel_offset == (None if offset is None else offset - data_set_at)
    assert found.pixel_length == expected.header.pixel_length
    assert found.has_pixels == expected.header.has_pixels
    return True


def _stripped(attributes: Any) -> dict[str, Any]:
    # pydicom keeps blanks within lists; blanks around a value mean nothing (PS3.5 6.2).
    return {
        name: [part.strip() for part in value] if isinstance(value, list) else value
        for name, value in attributes.items()
    }


@pytest.mark.parametrize("file", part10_files(), ids=lambda path: path.name)
def test_pydicoms_own_files_are_read_as_pydicom_reads_them(file: Path) -> None:
    compare(file.read_bytes())


@pytest.mark.parametrize(
    "name",
    ["ge-ct-head-tilted", "philips-mr-fieldmap-enhanced", "siemens-mr-mosaic-jpeg", "ge-mr-epi-4d"],
)
def test_real_scans_are_read_as_pydicom_reads_them(name: str, scan: Any) -> None:
    files = sorted(Path(scan(name)).rglob("*.dcm"))[:12]
    assert all(compare(file.read_bytes()) for file in files)


def encoded(data: Dataset, syntax: str) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian = syntax != EXPLICIT_BIG
    buffer.is_implicit_VR = syntax == IMPLICIT_LITTLE
    write_dataset(buffer, data)
    return buffer.getvalue()


@pytest.fixture
def data() -> Dataset:
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName = "Müller^Jörg"
    made.ImagePositionPatient = ["1.50", "-2", "3e0"]
    made.Rows, made.EchoTime = 512, "2.98"
    inner = Dataset()
    inner.Rows = 7
    middle = Dataset()
    middle.ReferencedImageSequence = [inner]
    made.ReferencedStudySequence = [middle, middle]
    return made


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_values_keep_their_characters_and_their_digits(syntax: str, data: Dataset) -> None:
    found = scan(encoded(data, syntax), syntax, SCHEME, complete=True).values
    assert found["PatientName"] == "Müller^Jörg"
    assert found["ImagePositionPatient"] == ["1.50", "-2", "3e0"]
    assert (found["Rows"], found["EchoTime"]) == ("512", "2.98")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT_LITTLE, EXPLICIT_BIG])
def test_sequences_of_undefined_length_are_passed_over(syntax: str, data: Dataset) -> None:
    data["ReferencedStudySequence"].is_undefined_length = True
    for item in data.ReferencedStudySequence:
        item.is_undefined_length_sequence_item = True
        item["ReferencedImageSequence"].is_undefined_length = True
    found = scan(encoded(data, syntax), syntax, SCHEME, complete=True).values
    assert found["Rows"] == "512"


def test_a_deflated_head_is_inflated(data: Dataset) -> None:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packer.compress(encoded(data, EXPLICIT)) + packer.flush()
    found = scan(packed, "1.2.840.10008.1.2.1.99", SCHEME, complete=True)
    assert found.values["Rows"] == "512"
    assert found.pixel_offset is None


def test_escapes_and_unknown_character_sets_are_left_to_the_library(data: Dataset) -> None:
    data.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    data.PatientName = "Yamada^Tarou=山田^太郎"
    found = scan(encoded(data, EXPLICIT), EXPLICIT, SCHEME, complete=True)
    assert found.needs_library


def test_a_head_that_goes_on_wants_more_and_a_whole_one_is_what_it_is(data: Dataset) -> None:
    content = encoded(data, EXPLICIT)
    whole = scan(content, EXPLICIT, SCHEME, complete=True)
    pixelless = Dataset({element.tag: element for element in data if element.tag < 0x7FE00000})
    for cut in range(1, len(content)):
        try:
            found = scan(content[:cut], EXPLICIT, SCHEME, complete=False)
        except TruncatedError:
            scan(content[:cut], EXPLICIT, SCHEME, complete=True)
        else:  # also where it is cut between two elements
            assert found.pixel_offset is not None
            assert found.values == whole.values
    with pytest.raises(TruncatedError):
        scan(encoded(pixelless, EXPLICIT), EXPLICIT, SCHEME, complete=False)


def test_words_are_no_data_set() -> None:
    for words in (b"no DICOM at all, only words", b"no dicom at all, only words"):
        assert scan(words, EXPLICIT, SCHEME, complete=True).values == {}


def test_sequences_without_end_in_each_other_are_an_attack() -> None:
    deep = b"\x08\x00\x10\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 200
    with pytest.raises(ScanError, match="deep"):
        scan(deep, EXPLICIT, SCHEME, complete=True)


def test_a_scheme_survives_the_way_to_another_process() -> None:
    assert Scheme.from_json(SCHEME.as_json()) == SCHEME


def _element(group: int, element: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Explicit VR Little Endian; a VR of two bytes of length unless it is SQ, UN or OW."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", group, element, vr)
    long = vr in (b"SQ", b"UN", b"OW")
    return head + (struct.pack("<xxI", size) if long else struct.pack("<H", size)) + value


def _sequence(vr: bytes, content: bytes) -> bytes:
    """A private sequence of undefined length with one item of undefined length."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ends = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return _element(0x0009, 0x1010, vr, item + content + ends, 0xFFFFFFFF)


_BEFORE = _element(8, 0x60, b"CS", b"CT")
_AFTER = _element(0x28, 0x10, b"US", b"\x04\0") + _element(0x7FE0, 0x10, b"OW", bytes(32))
_IMPLICIT_IN_IT = struct.pack("<HHI", 9, 0x1011, 4) + b"HEAD"


def test_an_implicit_item_in_an_explicit_data_set_is_passed_over() -> None:
    found = scan(
        _BEFORE + _sequence(b"SQ", _IMPLICIT_IN_IT) + _AFTER, EXPLICIT, SCHEME, complete=True
    )
    assert not found.needs_library
    assert (found.values["Modality"], found.values["Rows"]) == ("CT", "4")
    assert found.pixel_length == 32


def test_who_loses_the_way_says_so() -> None:
    # The items of UN are implicit (PS3.5 6.2.2); these are not.
    lost = _BEFORE + _sequence(b"UN", _element(9, 0x1011, b"LO", b"HEAD")) + _AFTER
    assert scan(lost, EXPLICIT, SCHEME, complete=True).needs_library
    assert not scan(_BEFORE, EXPLICIT, SCHEME, complete=True).needs_library


@pytest.mark.parametrize("named", [EXPLICIT, IMPLICIT_LITTLE])
@pytest.mark.parametrize("written", [EXPLICIT, IMPLICIT_LITTLE])
def test_pixels_are_found_however_the_data_set_is_written(
    data: Dataset, named: str, written: str, tmp_path: Path
) -> None:
    data.PixelData = bytes(range(64))
    data["PixelData"].VR = "OW"
    data.SOPClassUID = data.SOPInstanceUID = data.SeriesInstanceUID = data.StudyInstanceUID = "1.2"
    content = encoded(data, written)
    found = scan(content, named, SCHEME, complete=True)
    file = tmp_path / "named.dcm"
    named_file = pydicom.FileDataset("", {}, file_meta=FileMetaDataset(), preamble=bytes(128))
    named_file.file_meta.TransferSyntaxUID = UID(named)
    named_file.save_as(file)
    whole = file.read_bytes() + content
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = read_registration(whole).header
    for reader, at in ((found, len(whole) - len(content)), (read, 0)):
        assert (reader.pixel_offset, reader.pixel_length) == (len(whole) - 64 - at, 64)
    assert found.values["Rows"] == "512"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT_LITTLE])
@pytest.mark.parametrize(("signed", "padding"), [(0, 63536), (1, -2000)])
def test_what_may_be_signed_is_read_as_the_pixels_are(
    data: Dataset, syntax: str, signed: int, padding: int
) -> None:
    data.PixelRepresentation = signed
    data.add_new("PixelPaddingValue", "SS" if signed else "US", padding)
    found = scan(encoded(data, syntax), syntax, SCHEME, complete=True)
    assert found.values["PixelPaddingValue"] == str(padding)


def test_zeros_after_the_last_element_are_padding(data: Dataset) -> None:
    for syntax in (EXPLICIT, IMPLICIT_LITTLE):
        found = scan(encoded(data, syntax) + bytes(100), syntax, SCHEME, complete=True)
        assert found.values["Rows"] == "512"

"""b-values and directions come from vendors' own attributes where public ones are missing."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from services.common.header_scan import scan
from services.common.headers import InstanceHeader, read_registration, scheme
from services.imaging import open_images, split_volumes
from services.imaging.header_files import read_headers
from tests.builders.broken_series import time_series
from tests.builders.malformed import malformed_values
from tests.builders.series import raw, sound_series

Elements = Mapping[int, tuple[str, bytes]]


def three(*numbers: float) -> bytes:
    return struct.pack("<3d", *numbers)


SIEMENS: Elements = {
    0x00190010: ("LO", b"SIEMENS MR HEADER "),
    0x0019100C: ("IS", b"1000"),
    0x0019100E: ("FD", three(0.5, -0.25, 0.75)),
}
GE: Elements = {
    0x00190010: ("LO", b"GEMS_ACQU_01"),
    0x001910BB: ("DS", b"0.5 "),
    0x001910BC: ("DS", b"-0.25 "),
    0x001910BD: ("DS", b"0.75"),
    0x00430010: ("LO", b"GEMS_PARM_01"),
    0x00431039: ("IS", b"1000\\8\\0\\0"),
}
GE_BIASED: Elements = {**GE, 0x00431039: ("IS", b"1000001000\\8\\0\\0 ")}
UIH: Elements = {
    0x00650010: ("LO", b"Image Private Header"),
    0x00651009: ("FD", struct.pack("<d", 1000.0)),
    0x00651037: ("FD", three(0.5, -0.25, 0.75)),
}
CANON: Elements = {0x00204000: ("LT", b"b=1000(0.5,-0.25,0.75) ")}
VENDORS = {"Siemens": SIEMENS, "GE": GE, "GE, biased": GE_BIASED, "UIH": UIH, "Canon": CANON}


def with_elements(file: Path, elements: Elements, vr: str | None = None) -> Path:
    """The file with raw elements, of their own VR or of another."""
    data = pydicom.dcmread(file)
    for tag, (own, value) in elements.items():
        data[tag] = raw(tag, vr or own, value)
    data.save_as(file)
    return file


def opened(file: Path) -> InstanceHeader:
    (header,) = read_headers([file])
    assert header == read_registration(file.read_bytes()).header
    images = open_images([header], lambda _: file)
    assert isinstance(images, tuple)
    return images[0]


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendors_own_attributes_are_read(vendor: str, tmp_path: Path) -> None:
    header = opened(with_elements(sound_series(tmp_path)[0], VENDORS[vendor]))
    assert header.numbers("DiffusionBValue") == (1000.0,)
    assert header.numbers("DiffusionGradientOrientation") == (0.5, -0.25, 0.75)


@pytest.mark.parametrize("vendor", ["Siemens", "GE", "UIH"])
def test_they_are_read_whatever_a_transfer_made_of_their_vr(vendor: str, tmp_path: Path) -> None:
    header = opened(with_elements(sound_series(tmp_path)[0], VENDORS[vendor], vr="UN"))
    assert header.numbers("DiffusionBValue") == (1000.0,)
    assert header.numbers("DiffusionGradientOrientation") == (0.5, -0.25, 0.75)


def test_they_are_read_without_any_vr(tmp_path: Path) -> None:
    file = with_elements(sound_series(tmp_path)[0], GE)
    data = pydicom.dcmread(file)
    data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    data.save_as(file, implicit_vr=True)
    assert opened(file).numbers("DiffusionBValue") == (1000.0,)


def test_a_public_b_value_counts_first(tmp_path: Path) -> None:
    file = with_elements(sound_series(tmp_path)[0], SIEMENS)
    data = pydicom.dcmread(file)
    data.DiffusionBValue = 500.0
    data.save_as(file)
    assert opened(file).numbers("DiffusionBValue") == (500.0,)


@pytest.mark.parametrize("vendor", ["Siemens", "GE", "UIH"])
def test_a_private_element_without_its_creator_means_nothing(vendor: str, tmp_path: Path) -> None:
    strange = {
        tag: (vr, b"ANOTHER VENDOR" if tag & 0xFFFF == 0x10 else value)
        for tag, (vr, value) in VENDORS[vendor].items()
    }
    header = opened(with_elements(sound_series(tmp_path)[0], strange))
    assert header.text("DiffusionBValue") is None
    assert header.text("DiffusionGradientOrientation") is None


def test_a_zero_of_ge_in_an_image_that_is_no_diffusion_is_none(tmp_path: Path) -> None:
    zero = {**GE, 0x00431039: ("IS", b"0\\8\\0\\0 ")}
    file = with_elements(sound_series(tmp_path)[0], zero)
    assert opened(file).text("DiffusionBValue") is None
    data = pydicom.dcmread(file)
    data.ScanningSequence = ["SE", "EP"]
    data.save_as(file)
    assert opened(file).numbers("DiffusionBValue") == (0.0,)


def test_other_comments_are_not_kept(tmp_path: Path) -> None:
    comment = {0x00204000: ("LT", b"Mrs. Zebra moved, b=1000(0,0,1) ")}
    file = with_elements(sound_series(tmp_path)[0], comment)
    assert "ImageComments" not in read_registration(file.read_bytes()).header.attributes
    content = file.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    found = scan(content[start:], ExplicitVRLittleEndian, scheme(), complete=True)
    assert "ImageComments" not in found.values


@malformed_values
@pytest.mark.parametrize("value", [b"abc ", b"-5", b"nan ", b"", b"1\\2\\3 "])
def test_a_value_that_makes_no_sense_is_none_or_its_first(value: bytes, tmp_path: Path) -> None:
    odd = {**SIEMENS, 0x0019100C: ("IS", value)}
    number = opened(with_elements(sound_series(tmp_path)[0], odd)).numbers("DiffusionBValue")
    assert number == ((1.0,) if value.startswith(b"1") else None)


def test_directions_tell_volumes_of_one_b_value_apart(tmp_path: Path) -> None:
    files = time_series(tmp_path)
    for n, file in enumerate(files):
        time = n // 7
        elements = {
            **SIEMENS,
            0x0019100C: ("IS", b"0 " if time == 0 else b"1000"),
            0x0019100E: ("FD", three(0.0, float(time == 1), float(time == 2))),
        }
        with_elements(file, elements)
    images = open_images(read_headers(files), lambda _: files[0])
    assert isinstance(images, tuple)
    split = split_volumes(images[:-1])  # without a slice, so that numbers tell nothing
    assert split.told_by == ("DiffusionGradientOrientation",)
    assert [volume.attributes["DiffusionBValue"] for volume in split.volumes] == [
        "0",
        "1000",
        "1000",
    ]

"""Bits beside the value mean nothing (PS3.5 8.1.1), whatever codec brought them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from openjpeg.utils import encode_array
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from services.common.fates import Refusal
from services.imaging import Volume, read_series
from tests.builders.series import small_volume, sound_series

SHAPE = (3, 64, 48)
Words = NDArray[np.unsignedinteger[Any]]
Encode = Callable[[Words], bytes]


def _jpeg_2000(words: Words) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(words, level=0, codecformat="j2k"))


def _jpeg_2000_signed(words: Words) -> bytes:
    signed = words.view(f"i{words.itemsize}")
    bits = 8 * words.itemsize
    return bytes(encode_array(signed, bits_stored=bits, photometric_interpretation=2))


def _high_throughput(words: Words) -> bytes:
    return bytes(imagecodecs.htj2k_encode(words, reversible=True))


def _lossless(words: Words) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(words, bitspersample=8 * words.itemsize))


def _lossless_ls(words: Words) -> bytes:
    return bytes(imagecodecs.jpegls_encode(words))


CODE_STREAMS = [
    pytest.param(JPEG2000Lossless, _jpeg_2000, id="jpeg 2000"),
    pytest.param(JPEG2000, _jpeg_2000, id="jpeg 2000, any"),
    pytest.param(JPEG2000Lossless, _jpeg_2000_signed, id="jpeg 2000, a signed stream"),
    pytest.param(HTJ2KLossless, _high_throughput, id="htj2k"),
    pytest.param(JPEGLosslessSV1, _lossless, id="jpeg lossless sv1"),
    pytest.param(JPEGLossless, _lossless, id="jpeg lossless"),
    pytest.param(JPEGLSLossless, _lossless_ls, id="jpeg-ls"),
    pytest.param(JPEGLSNearLossless, _lossless_ls, id="jpeg-ls, near-lossless"),
]
FORMS = [
    pytest.param(allocated, stored, signed, id=f"{stored} of {allocated} {kind}")
    for allocated, stored in ((16, 12), (16, 15), (16, 9), (16, 16), (8, 7), (8, 8))
    for signed, kind in ((False, "unsigned"), (True, "signed"))
]


def littered(
    folder: Path, allocated: int, stored: int, signed: bool
) -> tuple[list[Path], NDArray[np.float32], list[Words]]:
    """A series that tells its bits; its values, and its words with other bits beside them."""
    files = sound_series(folder, small_volume(SHAPE))
    source = np.random.default_rng(3)
    low = -(1 << stored - 1) if signed else 0
    values = source.integers(low, low + (1 << stored), SHAPE)
    beside = source.integers(0, 1 << allocated - stored, SHAPE) << stored
    words = ((values & ((1 << stored) - 1)) | beside).astype(f"<u{allocated // 8}")
    for file in files:
        data = pydicom.dcmread(file)
        data.BitsAllocated, data.BitsStored, data.HighBit = allocated, stored, stored - 1
        data.PixelRepresentation = int(signed)
        data.save_as(file)
    return files, values.astype(np.float32), list(words)


def with_frame(file: Path, syntax: UID, frame: bytes) -> None:
    data = pydicom.dcmread(file)
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(file)


def values_of(files: list[Path]) -> NDArray[np.float32]:
    volume = read_series(files)
    assert isinstance(volume, Volume), volume
    return volume.values()


@pytest.mark.parametrize(("allocated", "stored", "signed"), FORMS)
@pytest.mark.parametrize(("syntax", "encode"), CODE_STREAMS)
def test_no_code_stream_brings_bits_beside_the_value(
    syntax: UID, encode: Encode, allocated: int, stored: int, signed: bool, tmp_path: Path
) -> None:
    files, values, words = littered(tmp_path, allocated, stored, signed)
    for file, plane in zip(files, words, strict=True):
        with_frame(file, syntax, encode(plane))
    assert np.array_equal(values_of(files), values)


@pytest.mark.parametrize(("allocated", "stored", "signed"), FORMS)
@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless],
    ids=lambda uid: uid.keyword,
)
def test_no_other_encoding_brings_bits_beside_the_value(
    syntax: UID, allocated: int, stored: int, signed: bool, tmp_path: Path
) -> None:
    files, values, words = littered(tmp_path, allocated, stored, signed)
    for file, plane in zip(files, words, strict=True):
        data = pydicom.dcmread(file)
        big = syntax == ExplicitVRBigEndian
        data.PixelData = (plane.byteswap() if big else plane).tobytes()
        data["PixelData"].VR = "OB" if allocated == 8 else "OW"
        if syntax == RLELossless:
            data.BitsStored, data.HighBit, data.PixelRepresentation = allocated, allocated - 1, 0
            data.compress(RLELossless, generate_instance_uid=False)
            data.BitsStored, data.HighBit = stored, stored - 1
            data.PixelRepresentation = int(signed)
            data.save_as(file)
            continue
        data.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(file, data, implicit_vr=False, little_endian=not big, force_encoding=True)
    assert np.array_equal(values_of(files), values)


def test_a_lossy_stream_brings_no_bits_beside_the_value(tmp_path: Path) -> None:
    # Flat planes, which the cosine transform gives back as they were.
    files, _, _ = littered(tmp_path, 8, 6, signed=False)
    for k, file in enumerate(files):
        plane = np.full(SHAPE[1:], 0b1100_0000 | 10 + k, np.uint8)
        with_frame(file, JPEGBaseline8Bit, bytes(imagecodecs.jpeg8_encode(plane, level=100)))
    assert [float(plane.mean()) for plane in values_of(files)] == [10.0, 11.0, 12.0]


@pytest.mark.parametrize(("syntax", "encode"), CODE_STREAMS)
def test_a_code_stream_of_more_bits_than_a_pixel_has_is_refused(
    syntax: UID, encode: Encode, tmp_path: Path
) -> None:
    files, _, _ = littered(tmp_path, 8, 8, signed=False)
    wide = np.full(SHAPE[1:], 0x1234, np.uint16)
    with_frame(files[1], syntax, encode(wide))
    with_frame(files[0], syntax, encode(wide.astype(np.uint8)))
    with_frame(files[2], syntax, encode(wide.astype(np.uint8)))
    refusal = read_series(files)
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "pixels_unreadable"
    problem = refusal.values["problem"]
    assert problem == "their code stream is of 16 bits, the header allows 8 for a pixel"

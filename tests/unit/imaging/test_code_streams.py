"""A JPEG code stream that is cut off, or of another size, is refused and never filled up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
)

from services.common.fates import Refusal
from services.imaging import Volume, read_series
from tests.builders.series import edit, small_volume, sound_series

SHAPE = (3, 64, 48)
Encode = Callable[[NDArray[Any]], bytes]


def _jpeg_2000(plane: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(plane, level=0, codecformat="j2k"))


def _jpeg_2000_in_boxes(plane: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(plane, level=0, codecformat="jp2"))


def _high_throughput(plane: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.htj2k_encode(plane, reversible=True))


def _lossless(plane: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.ljpeg_encode(plane, bitspersample=12))


def _lossless_ls(plane: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegls_encode(plane))


LOSSLESS = [
    pytest.param(JPEG2000Lossless, _jpeg_2000, id="jpeg 2000"),
    pytest.param(JPEG2000Lossless, _jpeg_2000_in_boxes, id="jpeg 2000 in boxes"),
    pytest.param(HTJ2KLossless, _high_throughput, id="htj2k"),
    pytest.param(JPEGLosslessSV1, _lossless, id="jpeg lossless"),
    pytest.param(JPEGLSLossless, _lossless_ls, id="jpeg-ls"),
]


def compressed(
    folder: Path, syntax: UID, encode: Encode, change: Callable[[bytes], bytes]
) -> list[Path]:
    """A series of 12-bit values, of whose second slice the code stream is changed."""
    files = sound_series(folder, small_volume(SHAPE))
    for k, file in enumerate(files):
        data = pydicom.dcmread(file)
        stream = encode(data.pixel_array.astype(np.uint16))
        data.PixelData = encapsulate([change(stream) if k == 1 else stream])
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(file)
    return files


def problem(files: list[Path]) -> str:
    refusal = read_series(files)
    assert isinstance(refusal, Refusal), "the series was read"
    assert refusal.reason == "pixels_unreadable"
    return str(refusal.values["problem"])


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 8, b"\xff\0"])
@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_a_whole_code_stream_is_read(
    syntax: UID, encode: Encode, padding: bytes, tmp_path: Path
) -> None:
    volume = read_series(compressed(tmp_path, syntax, encode, lambda stream: stream + padding))
    assert isinstance(volume, Volume), volume
    assert np.array_equal(volume.array, small_volume(SHAPE).array)


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS[3:])
@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
def test_a_code_stream_that_was_cut_off_is_refused(
    syntax: UID, encode: Encode, kept: float, tmp_path: Path
) -> None:
    files = compressed(
        tmp_path, syntax, encode, lambda stream: stream[: int(kept * len(stream)) // 2 * 2]
    )
    assert problem(files) == "their code stream is cut off"


def test_a_lossy_code_stream_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    files = sound_series(tmp_path, small_volume(SHAPE))
    for k, file in enumerate(files):
        data = pydicom.dcmread(file)
        stream = bytes(imagecodecs.jpeg8_encode((data.pixel_array >> 4).astype(np.uint8)))
        data.PixelData = encapsulate([stream[:1000] if k == 1 else stream])
        data["PixelData"].is_undefined_length = True
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.save_as(file)
    assert problem(files) == "their code stream is cut off"


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_a_code_stream_of_another_size_is_not_decoded(
    syntax: UID, encode: Encode, tmp_path: Path
) -> None:
    large = encode(np.zeros((3000, 2000), np.uint16))
    files = compressed(tmp_path, syntax, encode, lambda stream: large)
    assert problem(files) == "their code stream is of 2000 x 3000 pixels of 1 samples"


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_bytes_that_are_no_code_stream_do_not_tell_their_size(
    syntax: UID, encode: Encode, tmp_path: Path
) -> None:
    nothing = b"\xff\xd8" + bytes(range(200)) + b"\xff\xd9"
    files = compressed(tmp_path, syntax, encode, lambda stream: nothing)
    assert problem(files) == "their code stream does not tell its size"


@pytest.mark.parametrize(("syntax", "encode"), LOSSLESS)
def test_values_above_the_lowest_bits_are_no_code_stream(
    syntax: UID, encode: Encode, tmp_path: Path
) -> None:
    files = compressed(tmp_path, syntax, encode, lambda stream: stream)
    edit(files[1], BitsStored=12, HighBit=15)
    assert problem(files) == "12 bits up to bit 15 cannot be told from a code stream"

"""Series of which one image claims more than it holds, or holds more than it claims.

A series of three images of 64 x 48 pixels of 16 bits; the second is the bomb. Each is some hundred
kilobytes at most, and would take hundreds of megabytes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from tests.builders.series import small_volume, sound_series
from tests.fuzz.make_object_corpus import ENCODED

SHAPE = (3, 64, 48)
_SIDE = 16000


def deflated_pixels(folder: Path) -> list[Path]:
    """Pixel data of 400 MiB behind a head that tells a small matrix."""
    return _deflated(folder, lambda body: body + bytes(400 << 20))


def deflated_head(folder: Path) -> list[Path]:
    """A private element of 400 MiB before the pixels."""

    def grow(body: bytes) -> bytes:
        place = body.rindex(b"\xe0\x7f\x10\x00")
        element = struct.pack("<HH2s2xI", 0x0029, 0x1010, b"OB", 400 << 20)
        return body[:place] + element + bytes(400 << 20) + body[place:]

    return _deflated(folder, grow)


def deflated_garbage(folder: Path) -> list[Path]:
    """Bytes that do not inflate."""
    files = _deflated(folder, lambda body: body)
    content = bytearray(files[1].read_bytes())
    content[-200:] = b"\xff" * 200
    files[1].write_bytes(content)
    return files


def runs(folder: Path) -> list[Path]:
    """Runs of 300 MiB."""
    segment = b"\x81\x00" * (300 << 13)  # 128 zeros each
    head = struct.pack("<16L", 2, 64, 64 + len(segment), *[0] * 13)
    return _encapsulated(folder, RLELossless, head + segment + segment)


def long_frame(folder: Path) -> list[Path]:
    """A frame of 40 MiB for a matrix of six kilobytes."""
    return _encapsulated(folder, RLELossless, bytes(40 << 20))


def _large(encode: Callable[[Any], Any], syntax: UID) -> Callable[[Path], list[Path]]:
    def build(folder: Path) -> list[Path]:
        small = np.zeros((64, 48), np.uint16)
        stream = bytearray(encode(small))
        return _encapsulated(folder, syntax, bytes(_enlarged(stream)))

    return build


def _enlarged(stream: bytearray) -> bytearray:
    """The stream with a size in its head that its data do not fill."""
    if stream.startswith(b"\xff\x4f"):
        struct.pack_into(">2I", stream, 8, _SIDE, _SIDE)  # Xsiz, Ysiz behind SOC, SIZ, Lsiz, Rsiz
        return stream
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):
        place = stream.find(marker)
        if place >= 0:
            struct.pack_into(">2H", stream, place + 5, _SIDE, _SIDE)
    return stream


def large_matrix(folder: Path) -> list[Path]:
    """Three images of 8192 x 8192 zeros, which they truly hold, in some kilobytes each."""
    files = sound_series(folder, small_volume(SHAPE))
    zeros = np.zeros((8192, 8192), np.uint16)
    stream = bytes(imagecodecs.jpeg2k_encode(zeros, level=0, codecformat="j2k"))
    for file in files:
        data = pydicom.dcmread(file)
        data.Rows = data.Columns = 8192
        data.PixelData = encapsulate([stream])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        data.save_as(file)
    return files


# Their streams begin with the size of the matrix, which is enlarged.
_NAMES: Mapping[UID, str] = {
    JPEGBaseline8Bit: "jpeg",
    JPEGExtended12Bit: "jpeg extended",
    JPEGLossless: "jpeg lossless, any predictor",
    JPEGLosslessSV1: "jpeg lossless",
    JPEGLSLossless: "jpeg-ls",
    JPEGLSNearLossless: "jpeg-ls near lossless",
    JPEG2000Lossless: "jpeg 2000",
    JPEG2000: "jpeg 2000 with loss",
    HTJ2KLossless: "htj2k",
    HTJ2KLosslessRPCL: "htj2k rpcl",
    HTJ2K: "htj2k with loss",
}
BOMBS: Mapping[str, Callable[[Path], list[Path]]] = {
    "deflated pixels": deflated_pixels,
    "deflated head": deflated_head,
    "deflated garbage": deflated_garbage,
    "rle runs": runs,
    "rle long frame": long_frame,
    "large matrix": large_matrix,
    **{name: _large(ENCODED[syntax], syntax) for syntax, name in _NAMES.items()},
}


def _deflated(folder: Path, change: Callable[[bytes], bytes]) -> list[Path]:
    files = sound_series(folder, small_volume(SHAPE))
    for k, file in enumerate(files):
        data = pydicom.dcmread(file)
        body = io.BytesIO()
        pydicom.dcmwrite(body, data, implicit_vr=False, little_endian=True)
        content = body.getvalue()
        start = 144 + int.from_bytes(content[140:144], "little")
        deflater = zlib.compressobj(9, wbits=-15)
        plain = change(content[start:]) if k == 1 else content[start:]
        packed = deflater.compress(plain) + deflater.flush()
        # The head of the deflated form, whose data set was written by hand.
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        head = io.BytesIO()
        data.save_as(head)
        start = 144 + int.from_bytes(head.getvalue()[140:144], "little")
        file.write_bytes(head.getvalue()[:start] + packed)
    return files


def _encapsulated(folder: Path, syntax: UID, frame: bytes) -> list[Path]:
    files = sound_series(folder, small_volume(SHAPE))
    data = pydicom.dcmread(files[1])
    if syntax == JPEGBaseline8Bit:
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = encapsulate([frame])
    data["PixelData"].VR = "OB"
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = syntax
    data.save_as(files[1])
    return files

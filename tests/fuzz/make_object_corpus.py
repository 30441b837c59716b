"""Writes the seeds of the stored objects' corpus: a small sound object of every transfer syntax.

``python -m tests.fuzz.make_object_corpus``. What the fuzzer finds is added by hand, under a telling
name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
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

CORPUS = Path(__file__).parent / "corpus" / "objects"
PLAIN = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
# What loses, loses little.
ENCODED: dict[UID, Callable[[NDArray[Any]], Any]] = {
    JPEGBaseline8Bit: lambda plane: imagecodecs.jpeg8_encode((plane >> 4).astype(np.uint8)),
    JPEGExtended12Bit: lambda plane: imagecodecs.jpeg8_encode(plane, bitspersample=12),
    JPEGLossless: lambda plane: imagecodecs.jpeg8_encode(
        plane, bitspersample=12, lossless=True, predictor=4
    ),
    JPEGLosslessSV1: lambda plane: imagecodecs.ljpeg_encode(plane, bitspersample=12),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEGLSNearLossless: lambda plane: imagecodecs.jpegls_encode(plane, level=3),
    JPEG2000Lossless: lambda plane: imagecodecs.jpeg2k_encode(plane, level=0, codecformat="j2k"),
    JPEG2000: lambda plane: imagecodecs.jpeg2k_encode(
        plane, level=60, reversible=False, codecformat="j2k"
    ),
    HTJ2KLossless: lambda plane: imagecodecs.htj2k_encode(plane, reversible=True),
    # This encoder's order is by resolution, position, component, layer, as the syntax wants.
    HTJ2KLosslessRPCL: lambda plane: imagecodecs.htj2k_encode(plane, reversible=True),
    HTJ2K: lambda plane: imagecodecs.htj2k_encode(plane, reversible=False),
}
LOSSY = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K)


def seeds() -> dict[str, bytes]:
    """Keyword of the transfer syntax -> a file."""
    made: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        (file,) = sound_series(Path(folder), small_volume((1, 32, 32)))
        for syntax in (*PLAIN, RLELossless, *ENCODED):
            made[syntax.keyword] = object_in(syntax, pydicom.dcmread(file))
    return made


def object_in(syntax: UID, data: Any) -> bytes:
    """A file of one of the transfer syntaxes, of an object in Explicit VR Little Endian."""
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    elif syntax in ENCODED:
        stream = bytes(ENCODED[syntax](data.pixel_array.astype(np.uint16)))
        data.PixelData = encapsulate([stream])
        data["PixelData"].VR = "OB"
        data["PixelData"].is_undefined_length = True
    if syntax == JPEGBaseline8Bit:
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    if syntax == ExplicitVRBigEndian:
        data.PixelData = np.frombuffer(data.PixelData, "<u2").astype(">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    content = BytesIO()
    pydicom.dcmwrite(
        content,
        data,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        force_encoding=True,
    )
    return content.getvalue()


def main() -> None:
    """Writes all of them."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    for name, content in seeds().items():
        (CORPUS / name).write_bytes(content)


if __name__ == "__main__":
    main()

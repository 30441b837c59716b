"""Encoded frames: what is asked of one before a decoder is let at it.

Decoders fill the rest of a stream that was cut off without a word, and take memory for whatever
matrix a stream claims. Both are seen in some bytes at its ends. ISO/IEC 10918-1 B.1 (JPEG), 14495-1
C.1 (JPEG-LS), 15444-1 A.5 and I.4 (JPEG 2000); PS3.5 G (runs).
"""

from __future__ import annotations

import struct

from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import JPEG2000TransferSyntaxes, JPEGLSTransferSyntaxes, JPEGTransferSyntaxes

_JPEG = frozenset(map(str, [*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes]))
_JPEG_2000 = frozenset(map(str, JPEG2000TransferSyntaxes))
# Transfer syntaxes whose frames are code streams of one of the JPEG standards.
CODE_STREAMS = _JPEG | _JPEG_2000

_END_OF_IMAGE = b"\xff\xd9"
# An odd stream is padded to even length (PS3.5 A.4); some fill with bytes of a marker (B.1.1.2).
_PADDING = b"\0\xff"
# Start of frame, of all processes (0xF7: JPEG-LS); DHT, JPG and DAC lie between them.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_START_OF_SCAN, _END = 0xDA, 0xD9
# Markers without a length: TEM, RST0 to RST7, SOI.
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAME_HEAD = struct.Struct(">HBHHB")
_SIZE_MARKERS = b"\xff\x4f\xff\x51"
_SIZE = struct.Struct(">4x2H8IHB")
_BOX = struct.Struct(">I4s")
# A box that makes many samples of one (15444-1 I.5.3.4); DICOM has no boxes at all.
_PALETTE = b"pclr"
# Images of more pixels are none of a patient; decoders take several words for each.
_MOST_PIXELS = 1 << 28
# Start of frame -> a transfer syntax that is decoded so (PS3.5 10).
_SYNTAX_OF_FRAME = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.57",
    0xF7: "1.2.840.10008.1.2.4.80",
}
_JPEG_2000_SYNTAX = "1.2.840.10008.1.2.4.90"
# A run of two bytes is of 128 at most. Frames whose runs cannot take more memory are not counted.
_LONGEST_RUN, _UNCOUNTED = 128, 64 << 20
_RUNS_HEAD = struct.Struct("<16L")


def encoded_frame(dataset: Dataset, frame: int) -> bytes:
    """One frame as encapsulated (PS3.5 A.4).

    Args:
        dataset: with its pixels.
        frame: from 1.

    Raises:
        Exception: whatever the library raises where it meets a damaged encapsulation.
    """
    offsets = dataset.get("ExtendedOffsetTable"), dataset.get("ExtendedOffsetTableLengths")
    return get_frame(
        dataset.PixelData,
        frame - 1,
        number_of_frames=int(dataset.get("NumberOfFrames") or 1),
        extended_offsets=offsets if all(offsets) else None,
    )


def problem_of(stream: bytes, syntax: str, rows: int, columns: int, allocated: int) -> str | None:
    """Why a code stream is not decoded, in words for a refusal; None where nothing is wrong.

    Args:
        stream: of one frame, as encapsulated.
        syntax: UID of the transfer syntax, one of `CODE_STREAMS`.
        rows, columns: of the matrix that the header tells.
        allocated: bits that the header has for a pixel (BitsAllocated).
    """
    if syntax in _JPEG and not stream.rstrip(_PADDING).endswith(_END_OF_IMAGE):
        return "their code stream is cut off"
    try:
        size = _size_of_jpeg(stream) if syntax in _JPEG else _size_of_jpeg_2000(stream)
    except (struct.error, IndexError):
        size = None
    if size is None:
        return "their code stream does not tell its size"
    if _PALETTE in stream[: _start_of_jpeg_2000(stream) if syntax in _JPEG_2000 else 0]:
        return "their code stream shows its values by a palette"
    if rows * columns > _MOST_PIXELS:
        return f"{columns} x {rows} pixels are more than an image has"
    if size[:3] != (rows, columns, 1):
        return f"their code stream is of {size[1]} x {size[0]} pixels of {size[2]} samples"
    if size[3] > allocated:
        allowed = f"the header allows {allocated} for a pixel"
        return f"their code stream is of {size[3]} bits, {allowed}"
    return None


def syntax_of(stream: bytes) -> str | None:
    """The transfer syntax of a code stream, by its own markers; None where they tell of none."""
    try:
        if stream[:2] == _SIZE_MARKERS[:2] or stream[4:8] == b"jP  ":
            return _JPEG_2000_SYNTAX
        return _SYNTAX_OF_FRAME.get(_frame_of_jpeg(stream)[0])
    except (struct.error, IndexError):
        return None


def holds_more_runs(stream: bytes, most: int) -> bool:
    """Whether a frame of runs (PS3.5 G) decodes to more than `most` bytes.

    Frames that are too short for a decoder to take much memory are left to the decoder.
    """
    if len(stream) * _LONGEST_RUN // 2 <= _UNCOUNTED:
        return False
    segments, *offsets = _RUNS_HEAD.unpack_from(stream)
    ends = [*offsets[1 : min(segments, 15)], len(stream)]
    decoded = 0
    for start, end in zip(offsets, ends, strict=False):
        at = start
        while at < min(end, len(stream)) and decoded <= most:
            count = stream[at]
            decoded += count + 1 if count < 128 else 257 - count if count > 128 else 0
            at += count + 2 if count < 128 else 2 if count > 128 else 1
    # Each segment may be padded to an even length.
    return decoded > most + len(ends)


def _size_of_jpeg(stream: bytes) -> tuple[int, int, int, int] | None:
    """(rows, columns, samples, bits) of the first frame header."""
    marker, place = _frame_of_jpeg(stream)
    if marker not in _START_OF_FRAME:
        return None
    _, bits, rows, columns, samples = _FRAME_HEAD.unpack_from(stream, place + 2)
    return rows, columns, samples, bits


def _frame_of_jpeg(stream: bytes) -> tuple[int, int]:
    """The marker of the first frame header, and its place; another marker where there is none."""
    place = marker = 0
    while stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker in _START_OF_FRAME or marker in (_START_OF_SCAN, _END):
            break
        if marker == 0xFF:
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
    return marker, place


def _size_of_jpeg_2000(stream: bytes) -> tuple[int, int, int, int] | None:
    """(rows, columns, samples, bits) of the image on its reference grid."""
    start = _start_of_jpeg_2000(stream)
    if stream[start : start + 4] != _SIZE_MARKERS:
        return None
    _, _, right, bottom, left, top, _, _, _, _, samples, depth = _SIZE.unpack_from(stream, start)
    # The highest bit of the depth tells the sign (15444-1 table A.11).
    return bottom - top, right - left, samples, (depth & 0x7F) + 1


def _start_of_jpeg_2000(stream: bytes) -> int:
    # PS3.5 A.4.4 wants the bare stream; files of boxes are met all the same, and decoded.
    place = 0
    while stream[place : place + 2] != _SIZE_MARKERS[:2]:
        length, kind = _BOX.unpack_from(stream, place)
        head = 16 if length == 1 else 8
        if kind == b"jp2c":
            return place + head
        if length == 1:
            length = int.from_bytes(stream[place + 8 : place + 16], "big")
        place += max(length, head)
    return place

"""What two images under one SOP Instance UID have of pixels: the same, others, or too few."""

from __future__ import annotations

import math
from pathlib import Path

from services.common.headers import InstanceHeader
from services.common.stored_objects import StoredObjectError, bound_of, read_object
from services.listener.door.part10 import META_BYTES

# An image as it is kept: its sealed file, and its header.
Image = tuple[Path, InstanceHeader]

# PS3.5 table A.4-1: an item, and the sequence delimitation item.
_ITEM, _DELIMITATION = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_UNDEFINED = 0xFFFFFFFF


def same_pixels(one: Image, other: Image) -> bool:
    """Whether two images have the same pixels: as bytes, or decoded where either is encoded.

    Without pixels, whether their data sets are the same. What cannot be decoded has others.

    Raises:
        OSError: the disk does not give a file.
    """
    if _pixel_bytes(*one) == _pixel_bytes(*other):
        return True
    if all(header.pixel_length is not None or not header.is_image for _, header in (one, other)):
        return False
    # The decoders are needed for this alone.
    from services.common.decoded_pixels import same_values

    return same_values(one, other)


def heals(own: Image, kept: Image) -> bool:
    """Whether an image is whole where the registered image of its UID was cut off: otherwise the
    same image of the same series, and the registered image cannot be used.

    Raises:
        OSError: the disk does not give a file.
    """
    header, known = own[1], kept[1]
    same = (header.study_uid, header.series_uid) == (known.study_uid, known.series_uid)
    attributes = header.attributes == known.attributes
    return same and attributes and _is_cut_off(*kept) and not _is_cut_off(*own)


def _pixel_bytes(file: Path, header: InstanceHeader) -> bytes:
    offset, length = header.pixel_offset, header.pixel_length
    with file.open("rb") as opened:
        opened.seek(META_BYTES if offset is None else offset)
        return opened.read(-1 if length is None or offset is None else length)


def _is_cut_off(file: Path, header: InstanceHeader) -> bool:
    """Whether plain pixels are fewer than their matrix says (PS3.5 8.1.1), whether encapsulated
    ones end before their delimitation (PS3.5 A.4), or a deflated object does not inflate.
    """
    if not header.is_image:
        return False
    if header.pixel_length is not None:
        return header.pixel_length < _matrix_bytes(header)
    if header.pixel_offset is not None:
        return not _is_delimited(file, header.pixel_offset)
    try:
        dataset = read_object(file, header.transfer_syntax_uid, bound_of(header.attributes))
    except StoredObjectError:
        return True
    return len(dataset.get("PixelData") or b"") < _matrix_bytes(header)


def _matrix_bytes(header: InstanceHeader) -> float:
    numbers = [
        header.numbers(keyword) or default
        for keyword, default in (
            ("Rows", (0.0,)),
            ("Columns", (0.0,)),
            ("BitsAllocated", (0.0,)),
            ("SamplesPerPixel", (1.0,)),
            ("NumberOfFrames", (1.0,)),
        )
    ]
    return math.prod(values[0] for values in numbers) / 8


def _is_delimited(file: Path, offset: int) -> bool:
    """Whether the fragments that begin at `offset` go on to a delimitation."""
    with file.open("rb") as opened:
        opened.seek(offset)
        while (item := opened.read(8))[:4] == _ITEM:
            length = int.from_bytes(item[4:], "little")
            if len(item) < 8 or length == _UNDEFINED:
                return False
            opened.seek(length, 1)
    return len(item) == 8 and item[:4] == _DELIMITATION

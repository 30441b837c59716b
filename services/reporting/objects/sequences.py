"""Sequences with an item for each plane or frame, written as bytes (PS3.5 7.1.2, 7.5).

An object has hundreds or thousands of them, all alike but for a UID or a number. pydicom makes a
data set of each, which takes longer than everything else in the object together. What is written
here is what pydicom writes: Explicit VR Little Endian, every length given.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from services.reporting.source.modules import keep_bytes

_ITEM = struct.Struct("<HHI")
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHI")
_LONGEST = 0xFFFF
_PADDED_BY_NULL = ("UI",)


def element(keyword: str, value: str | bytes) -> bytes:
    """An element; of more than 64 KB, for which most VRs have no length, as UN (PS3.5 6.2.2).

    Args:
        keyword: of the attribute.
        value: text, which is padded to an even length, or bytes as they are.
    """
    tag, vr = _described(keyword)
    if isinstance(value, str):
        value = value.encode("latin-1")
        if len(value) % 2:
            value += b"\0" if vr in _PADDED_BY_NULL else b" "
    if vr not in EXPLICIT_VR_LENGTH_32:
        if len(value) <= _LONGEST:
            return _SHORT.pack(tag >> 16, tag & 0xFFFF, vr.encode(), len(value)) + value
        vr = "UN"
    return _LONG.pack(tag >> 16, tag & 0xFFFF, vr.encode(), 0, len(value)) + value


def sequence(keyword: str, items: Iterable[bytes]) -> bytes:
    """A sequence of items."""
    tag, _ = _described(keyword)
    value = b"".join(items)
    return _LONG.pack(tag >> 16, tag & 0xFFFF, b"SQ", 0, len(value)) + value


def sequence_item(*elements: bytes) -> bytes:
    """An item; its elements are given in the order of their tags."""
    value = b"".join(elements)
    return _ITEM.pack(0xFFFE, 0xE000, len(value)) + value


def item_of(dataset: Dataset) -> bytes:
    """An item with what a data set holds, as pydicom writes it."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR = False
    buffer.is_little_endian = True
    write_dataset(buffer, dataset)
    return sequence_item(buffer.getvalue())


def put_sequence(dataset: Dataset, keyword: str, items: Iterable[bytes]) -> None:
    """Makes items the value of a sequence of `dataset`.

    The data set writes them as they are, and decodes them when it is asked for the sequence.
    """
    value = b"".join(items)
    tag = Tag(_described(keyword)[0])
    dataset[tag] = RawDataElement(tag, "SQ", len(value), value, 0, False, True)
    keep_bytes(dataset)


def _described(keyword: str) -> tuple[int, str]:
    known = _KNOWN.get(keyword)
    if known is None:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise KeyError(keyword)
        known = _KNOWN[keyword] = tag, dictionary_VR(tag)
    return known


_KNOWN: dict[str, tuple[int, str]] = {}

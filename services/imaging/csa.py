"""Siemens' CSA header: named values behind an own binary table, in (0029,xx10).

Known from its publication by others (nibabel's `csareader`, dcm2niix's notes): "SV10", four bytes,
the number of elements, 77; then each element as a name of 64 bytes, its multiplicity, a VR, two
numbers, the number of items and 77 or 205; each item as four numbers, the second of which is its
length, and its text, padded to four bytes. Only this form, CSA2, is read; CSA1 has no mark.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_MARK = b"SV10"
_CHECKS = frozenset({77, 205})
_HEAD = struct.Struct("<4s4sII")
_ELEMENT = struct.Struct("<64si4siII")
_ITEM = struct.Struct("<4i")
# More elements or items than scanners write: a damaged count must end, not fill the memory.
_MOST_ELEMENTS = 1024
_MOST_ITEMS = 4096


class CSAError(ValueError):
    """The bytes are no CSA2 header."""


def read_csa(content: bytes) -> Mapping[str, tuple[str, ...]]:
    """Name -> values as text, empty ones left out.

    Raises:
        CSAError: another form, damaged, or cut off.
    """
    try:
        mark, _, count, check = _HEAD.unpack_from(content)
        if mark != _MARK or check not in _CHECKS or count > _MOST_ELEMENTS:
            raise CSAError("The CSA header does not begin like one.")
        values: dict[str, tuple[str, ...]] = {}
        place = _HEAD.size
        for _ in range(count):
            name, items, place = _element(content, place)
            values[name] = items
    except struct.error as error:
        raise CSAError("The CSA header is cut off.") from error
    return values


def _element(content: bytes, place: int) -> tuple[str, tuple[str, ...], int]:
    name, _, _, _, count, check = _ELEMENT.unpack_from(content, place)
    if check not in _CHECKS or count > _MOST_ITEMS:
        raise CSAError("An element of the CSA header is damaged.")
    place += _ELEMENT.size
    items: list[str] = []
    for _ in range(count):
        length = _ITEM.unpack_from(content, place)[1]
        place += _ITEM.size
        if length < 0 or place + length > len(content):
            raise CSAError("An item of the CSA header is cut off.")
        text = _text(content[place : place + length])
        if text:
            items.append(text)
        place += (length + 3) // 4 * 4
    return _text(name), tuple(items), place


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("latin-1").strip()

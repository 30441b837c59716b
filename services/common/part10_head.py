"""The beginning of a DICOM file as it is sent: preamble, prefix, meta information (PS3.10 7.1).

Read from as many bytes as have come. The data set behind it is not looked at here; the meta
information we store is our own.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from services.common.identity import is_uid

# What stands before the data set is never longer than this; private information may be large.
MAX_HEAD_BYTES = 1 << 20

_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_ELEMENT = struct.Struct("<HH2sH")
_LENGTH = struct.Struct("<I")
# Explicit VRs with two reserved bytes and a length of 32 bits (PS3.5 table 7.1-1).
_LONG_VRS = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ", b"UC", b"UR", b"OD", b"OF", b"OL", b"OV"))
_GROUP_LENGTH, _SOP_CLASS, _SOP_INSTANCE, _TRANSFER_SYNTAX = 0x0000, 0x0002, 0x0003, 0x0010


class HeadError(Exception):
    """The bytes are no DICOM file."""


@dataclass(frozen=True, slots=True)
class Part10Head:
    """What the file meta information says.

    Attributes:
        sop_class_uid, sop_instance_uid: empty when absent.
        data_set_at: where the data set begins, in bytes from the beginning.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set_at: int


def read_head(data: bytes, *, complete: bool = False) -> Part10Head | None:
    """Reads the head of a file from its first bytes; None when more bytes are needed.

    The meta information ends where its group length says, if an element ends there; real files
    lack it or have it wrong, and then it ends with the last element of its group.

    Args:
        complete: whether these are all the bytes of the file.

    Raises:
        HeadError: no preamble, no meta information, or no transfer syntax.
    """
    start = _PREAMBLE_BYTES + len(_PREFIX)
    if not _PREFIX.startswith(data[_PREAMBLE_BYTES:start]):
        raise HeadError("The part has no DICOM prefix.")
    if len(data) < start:
        return _wait(data, complete=complete)
    values: dict[int, bytes] = {}
    at = start
    told_end = -1
    while at != told_end or _TRANSFER_SYNTAX not in values:
        if len(data) - at < 2 and not (complete and len(data) == at):
            return _wait(data, complete=complete)
        if data[at : at + 2] != b"\x02\x00":
            break
        end = _value_end(data, at)
        if end is None or end[1] > len(data):
            return _wait(data, complete=complete)
        element = int.from_bytes(data[at + 2 : at + 4], "little")
        values[element] = data[end[0] : end[1]]
        at = end[1]
        if element == _GROUP_LENGTH and len(values[element]) == _LENGTH.size:
            told_end = at + _LENGTH.unpack(values[element])[0]
    return _head(values, at)


def _value_end(data: bytes, at: int) -> tuple[int, int] | None:
    """Where an element's value begins and ends; None when its beginning has not come."""
    if len(data) - at < _ELEMENT.size:
        return None
    _, _, vr, length = _ELEMENT.unpack_from(data, at)
    at += _ELEMENT.size
    if vr in _LONG_VRS:
        if len(data) - at < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
    if length > MAX_HEAD_BYTES:
        raise HeadError("The file meta information is too long.")
    return at, at + length


def _wait(data: bytes, *, complete: bool) -> None:
    if complete:
        raise HeadError("The part ends within its file meta information.")
    if len(data) > MAX_HEAD_BYTES:
        raise HeadError("The file meta information is too long.")


def _head(values: dict[int, bytes], at: int) -> Part10Head:
    syntax = _uid(values, _TRANSFER_SYNTAX)
    if not syntax:
        raise HeadError("The file meta information names no transfer syntax.")
    return Part10Head(_uid(values, _SOP_CLASS), _uid(values, _SOP_INSTANCE), syntax, at)


def _uid(values: dict[int, bytes], element: int) -> str:
    text = values.get(element, b"").rstrip(b"\0 ").decode("latin-1")
    return text if is_uid(text) else ""

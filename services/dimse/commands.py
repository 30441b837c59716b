"""DIMSE commands: command sets of requests and responses, read and written (PS3.7 6.3, E).

A command set is always Implicit VR Little Endian, whatever the data set is in.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101
_A_DATA_SET = 0x0001  # anything else than NO_DATA_SET (PS3.7 E.1)
_MEDIUM = 0x0000  # priority, PS3.7 table 9.3-1
UNRECOGNISED_OPERATION = 0x0211  # PS3.7 C.5.10

_ELEMENT = struct.Struct("<HHI")


class MalformedCommandError(Exception):
    """A peer sent what is no command set."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request's command set.

    Attributes:
        field: the command field, e.g. C_STORE_RQ.
        has_data_set: whether a data set follows.
        sop_class_uid, sop_instance_uid: of the affected SOP instance; empty when absent.
        move_originator: the AE title on whose behalf a sub-operation is sent; else empty.
    """

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    move_originator: str


def parse_command(data: bytes) -> Command:
    """Reads a command set.

    Raises:
        MalformedCommandError: the lengths contradict each other, or the command field is missing.
    """
    values = _elements(data)
    field = values.get(0x0100, b"")
    data_set_type = values.get(0x0800, b"")
    if len(field) != 2 or len(data_set_type) != 2:
        raise MalformedCommandError("The command has no field or no data set type.")
    return Command(
        field=int.from_bytes(field, "little"),
        message_id=int.from_bytes(values.get(0x0110, b"")[:2], "little"),
        has_data_set=int.from_bytes(data_set_type, "little") != NO_DATA_SET,
        sop_class_uid=_text(values.get(0x0002, b"")),
        sop_instance_uid=_text(values.get(0x1000, b"")),
        move_originator=_text(values.get(0x1030, b"")),
    )


def response(command: Command, status: int, comment: str = "") -> bytes:
    """The response command set (PS3.7 tables 9.3-2 and 9.3-13).

    Args:
        comment: (0000,0902), for people; cut to 64 characters.
    """
    elements: list[tuple[int, bytes]] = []
    if command.sop_class_uid:
        elements.append((0x0002, _padded(command.sop_class_uid, b"\0")))
    elements.append((0x0100, struct.pack("<H", command.field | RESPONSE)))
    elements.append((0x0120, struct.pack("<H", command.message_id)))
    elements.append((0x0800, struct.pack("<H", NO_DATA_SET)))
    elements.append((0x0900, struct.pack("<H", status)))
    if comment:
        elements.append((0x0902, _padded(comment[:64], b" ")))
    if command.sop_instance_uid:
        elements.append((0x1000, _padded(command.sop_instance_uid, b"\0")))
    return _command_set(elements)


@dataclass(frozen=True, slots=True)
class Response:
    """A response's command set.

    Attributes:
        field: the command field with its RESPONSE bit, e.g. C_STORE_RQ | RESPONSE.
        message_id: of the answered request; None when the response does not say.
        status: None when the response has none.
        comment: (0000,0902), as sent.
    """

    field: int
    message_id: int | None
    status: int | None
    comment: str
    has_data_set: bool


def parse_response(data: bytes) -> Response:
    """Reads a response's command set.

    Raises:
        MalformedCommandError: its lengths contradict each other, or its field is missing.
    """
    values = _elements(data)
    field = _number(values, 0x0100)
    if field is None:
        raise MalformedCommandError("The response has no command field.")
    # What leaves out the type of its data set has none: responses to C-STORE never do.
    kind = _number(values, 0x0800)
    return Response(
        field=field,
        message_id=_number(values, 0x0120),
        status=_number(values, 0x0900),
        comment=_text(values.get(0x0902, b"")),
        has_data_set=kind is not None and kind != NO_DATA_SET,
    )


def store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """The command set of a C-STORE-RQ (PS3.7 table 9.3-1)."""
    return _command_set(
        (
            (0x0002, _padded(sop_class_uid, b"\0")),
            (0x0100, struct.pack("<H", C_STORE_RQ)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0700, struct.pack("<H", _MEDIUM)),
            (0x0800, struct.pack("<H", _A_DATA_SET)),
            (0x1000, _padded(sop_instance_uid, b"\0")),
        )
    )


def echo_request(message_id: int, sop_class_uid: str) -> bytes:
    """The command set of a C-ECHO-RQ (PS3.7 table 9.3-12)."""
    return _command_set(
        (
            (0x0002, _padded(sop_class_uid, b"\0")),
            (0x0100, struct.pack("<H", C_ECHO_RQ)),
            (0x0110, struct.pack("<H", message_id)),
            (0x0800, struct.pack("<H", NO_DATA_SET)),
        )
    )


def _elements(data: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if at + _ELEMENT.size > len(data):
            raise MalformedCommandError("An element ends before its length.")
        group, element, length = _ELEMENT.unpack_from(data, at)
        at += _ELEMENT.size
        if group != 0 or at + length > len(data):
            raise MalformedCommandError("An element is no command element, or too long.")
        values[element] = data[at : at + length]
        at += length
    return values


def _command_set(elements: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(_ELEMENT.pack(0, tag, len(value)) + value for tag, value in elements)
    return _ELEMENT.pack(0, 0, 4) + struct.pack("<I", len(body)) + body


def _number(values: Mapping[int, bytes], tag: int) -> int | None:
    value = values.get(tag, b"")
    return int.from_bytes(value, "little") if len(value) == 2 else None


def _padded(text: str, padding: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + padding if len(value) % 2 else value


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")

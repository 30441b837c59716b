"""Protocol data units of the upper layer (PS3.8 9.3), read and written as bytes.

Reading is strict where a mistake would be acted on (lengths, order) and lenient where the standard
says so: unknown items and reserved fields are passed over (PS3.8 9.3.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

A_ASSOCIATE_RQ = 0x01
A_ASSOCIATE_AC = 0x02
A_ASSOCIATE_RJ = 0x03
P_DATA_TF = 0x04
A_RELEASE_RQ = 0x05
A_RELEASE_RP = 0x06
A_ABORT = 0x07

PDU_HEAD = struct.Struct(">BxI")
PDV_HEAD = struct.Struct(">IBB")
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1

_FIXED = struct.Struct(">H2x16s16s32x")
_ITEM_HEAD = struct.Struct(">BxH")
# Presentation contexts have odd ids of one byte (PS3.8 9.3.2.2): there are no more than these.
MOST_CONTEXTS = 128


class MalformedPduError(Exception):
    """A peer sent what is no PDU.

    Attributes:
        reason: of the A-ABORT that answers such a PDU (PS3.8 table 9-26).
    """

    def __init__(self, message: str, reason: int = 6) -> None:
        super().__init__(message)
        self.reason = reason


# PS3.8 table 9-26, source 2 (service provider).
UNRECOGNISED_PDU = 1
UNEXPECTED_PDU = 2
INVALID_PARAMETER = 6


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A presentation context as it was proposed (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2).

    Attributes:
        max_pdu_bytes: the longest P-DATA-TF the requestor takes; 0 is no limit.
        roles: SOP class -> (SCU, SCP) as proposed (PS3.7 D.3.3.4).
    """

    protocol_version: int
    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    roles: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


@dataclass(frozen=True, slots=True)
class AnsweredContext:
    """A presentation context as it is answered (PS3.8 9.3.3.2).

    Attributes:
        result: 0 accepted, 1 user rejection, 3 abstract syntax not supported, 4 transfer syntaxes
            not supported.
    """

    context_id: int
    result: int
    transfer_syntax: str


def parse_associate_request(body: bytes) -> AssociateRequest:
    """Reads the body of an A-ASSOCIATE-RQ, what follows its six bytes of head.

    Raises:
        MalformedPduError: lengths contradict each other, or a part is missing that must be there.
    """
    if len(body) < _FIXED.size:
        raise MalformedPduError("The A-ASSOCIATE-RQ ends before its items.")
    version, called, calling = _FIXED.unpack_from(body)
    application_context = ""
    contexts: list[ProposedContext] = []
    user: dict[str, object] = {}
    for kind, value in items(body[_FIXED.size :]):
        if kind == 0x10:
            application_context = uid_text(value)
        elif kind == 0x20:
            contexts.append(_context(value))
        elif kind == 0x50:
            user = _user_information(value)
    ids = [context.context_id for context in contexts]
    if not contexts or len(contexts) > MOST_CONTEXTS or len(set(ids)) < len(ids):
        raise MalformedPduError("The A-ASSOCIATE-RQ has no presentation contexts, or one twice.")
    return AssociateRequest(
        protocol_version=version,
        called_ae_title=_ae_title(called),
        calling_ae_title=_ae_title(calling),
        application_context=application_context,
        contexts=tuple(contexts),
        **user,  # pyright: ignore[reportArgumentType] - keys and types are _user_information's
    )


def associate_accept(
    request_body: bytes,
    answers: list[AnsweredContext],
    *,
    max_pdu_bytes: int,
    implementation_class_uid: str,
    implementation_version: str,
    roles: dict[str, tuple[int, int]],
) -> bytes:
    """An A-ASSOCIATE-AC (PS3.8 9.3.3) that answers a request.

    The AE titles are sent back as they came (PS3.8 table 9-17).
    """
    parts = [item(0x10, APPLICATION_CONTEXT.encode())]
    for answer in answers:
        head = struct.pack(">BxBx", answer.context_id, answer.result)
        parts.append(item(0x21, head + item(0x40, answer.transfer_syntax.encode())))
    user = [
        item(0x51, struct.pack(">I", max_pdu_bytes)),
        item(0x52, implementation_class_uid.encode()),
    ]
    for uid, (scu, scp) in roles.items():
        name = uid.encode()
        user.append(item(0x54, struct.pack(">H", len(name)) + name + bytes((scu, scp))))
    user.append(item(0x55, implementation_version.encode()))
    parts.append(item(0x50, b"".join(user)))
    fixed = struct.pack(">H2x", 1) + request_body[4:68]
    return pdu(A_ASSOCIATE_AC, fixed + b"".join(parts))


def associate_reject(result: int, source: int, reason: int) -> bytes:
    """An A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    return pdu(A_ASSOCIATE_RJ, bytes((0, result, source, reason)))


def abort(reason: int, source: int = 2) -> bytes:
    """An A-ABORT (PS3.8 9.3.8); source 2 is the service provider, 0 the service user."""
    return pdu(A_ABORT, bytes((0, 0, source, reason)))


def release_request() -> bytes:
    """An A-RELEASE-RQ (PS3.8 9.3.6)."""
    return pdu(A_RELEASE_RQ, bytes(4))


def release_response() -> bytes:
    """An A-RELEASE-RP (PS3.8 9.3.7)."""
    return pdu(A_RELEASE_RP, bytes(4))


def p_data(context_id: int, command: bytes) -> bytes:
    """A P-DATA-TF with one command, whole (PS3.8 9.3.5, E.2: command, last fragment)."""
    return pdu(P_DATA_TF, PDV_HEAD.pack(len(command) + 2, context_id, 0x03) + command)


def pdu(kind: int, body: bytes) -> bytes:
    """A PDU of a kind around its body."""
    return PDU_HEAD.pack(kind, len(body)) + body


def data_values(body: memoryview) -> list[tuple[int, int, memoryview]]:
    """The presentation data values of a P-DATA-TF (PS3.8 9.3.5): context id, control, fragment.

    Raises:
        MalformedPduError: a value ends before its head, or contradicts its length.
    """
    found: list[tuple[int, int, memoryview]] = []
    at, end = 0, len(body)
    while at < end:
        if at + PDV_HEAD.size > end:
            raise MalformedPduError("A presentation data value ends before its head.")
        length, context_id, control = PDV_HEAD.unpack_from(body, at)
        stop = at + 4 + length
        if length < 2 or stop > end:
            raise MalformedPduError("A presentation data value contradicts its length.")
        found.append((context_id, control, body[at + PDV_HEAD.size : stop]))
        at = stop
    return found


def items(data: bytes) -> list[tuple[int, bytes]]:
    """Items (PS3.8 9.3.2), one after the other: type and value.

    Raises:
        MalformedPduError: the items' lengths contradict the length of what holds them.
    """
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + _ITEM_HEAD.size > len(data):
            raise MalformedPduError("An item ends before its length.")
        kind, length = _ITEM_HEAD.unpack_from(data, at)
        at += _ITEM_HEAD.size
        if at + length > len(data):
            raise MalformedPduError(f"Item {kind:02X}H is longer than what holds it.")
        found.append((kind, data[at : at + length]))
        at += length
    return found


def _context(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise MalformedPduError("A presentation context has no id.")
    if value[0] % 2 == 0:
        raise MalformedPduError("A presentation context has an even id.")
    abstract: list[str] = []
    syntaxes: list[str] = []
    for kind, name in items(value[4:]):
        if kind == 0x30:
            abstract.append(uid_text(name))
        elif kind == 0x40:
            syntaxes.append(uid_text(name))
    if len(abstract) != 1 or not syntaxes:
        raise MalformedPduError("A presentation context lacks its abstract or transfer syntax.")
    return ProposedContext(value[0], abstract[0], tuple(syntaxes))


def _user_information(value: bytes) -> dict[str, object]:
    user: dict[str, object] = {}
    roles: dict[str, tuple[int, int]] = {}
    for kind, part in items(value):
        if kind == 0x51:
            if len(part) != 4:
                raise MalformedPduError("The maximum length has no four bytes.")
            user["max_pdu_bytes"] = int.from_bytes(part, "big")
        elif kind == 0x52:
            user["implementation_class_uid"] = uid_text(part)
        elif kind == 0x55:
            user["implementation_version"] = part.decode("ascii", "replace").strip("\0 ")
        elif kind == 0x54:
            length = int.from_bytes(part[:2], "big")
            if len(part) != length + 4:
                raise MalformedPduError("A role selection contradicts its length.")
            roles[uid_text(part[2 : 2 + length])] = (part[-2] & 1, part[-1] & 1)
    user["roles"] = roles
    return user


def item(kind: int, value: bytes) -> bytes:
    """An item of a type around its value."""
    return _ITEM_HEAD.pack(kind, len(value)) + value


def uid_text(value: bytes) -> str:
    """A UID from an item, without padding."""
    return value.decode("ascii", "replace").rstrip("\0 ")


def _ae_title(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")

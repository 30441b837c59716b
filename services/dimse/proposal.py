"""The requestor's side of a negotiation: the request written, the acceptance read (PS3.8 9.3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.dimse.pdu import (
    A_ASSOCIATE_RQ,
    APPLICATION_CONTEXT,
    AnsweredContext,
    MalformedPduError,
    ProposedContext,
    item,
    items,
    pdu,
    uid_text,
)

_FIXED = struct.Struct(">H2x16s16s32x")
# Of a P-DATA-TF's longest body, what heads take; and the least that lets a fragment in.
_LEAST_PDU_BYTES = 6 + 2


@dataclass(frozen=True, slots=True)
class AssociateAnswer:
    """An A-ASSOCIATE-AC.

    Attributes:
        max_pdu_bytes: the longest P-DATA-TF body that the acceptor takes; 0 is no limit.
    """

    contexts: tuple[AnsweredContext, ...]
    max_pdu_bytes: int = 0
    implementation_class_uid: str = ""
    implementation_version: str = ""
    roles: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def associate_request(
    called: str,
    calling: str,
    contexts: Sequence[ProposedContext],
    *,
    max_pdu_bytes: int,
    implementation_class_uid: str,
    implementation_version: str,
) -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2), with one operation at a time (PS3.7 D.3.3.3)."""
    parts = [item(0x10, APPLICATION_CONTEXT.encode())]
    for context in contexts:
        head = bytes((context.context_id, 0, 0, 0))
        abstract = item(0x30, context.abstract_syntax.encode())
        syntaxes = b"".join(item(0x40, uid.encode()) for uid in context.transfer_syntaxes)
        parts.append(item(0x20, head + abstract + syntaxes))
    user = (
        item(0x51, struct.pack(">I", max_pdu_bytes)),
        item(0x52, implementation_class_uid.encode()),
        item(0x55, implementation_version.encode()),
    )
    parts.append(item(0x50, b"".join(user)))
    titles = (title.encode("ascii", "replace").ljust(16) for title in (called, calling))
    return pdu(A_ASSOCIATE_RQ, _FIXED.pack(1, *titles) + b"".join(parts))


def parse_associate_accept(body: bytes) -> AssociateAnswer:
    """Reads the body of an A-ASSOCIATE-AC.

    Raises:
        MalformedPduError: lengths contradict each other, or no command would fit into its PDUs.
    """
    if len(body) < _FIXED.size:
        raise MalformedPduError("The A-ASSOCIATE-AC ends before its items.")
    contexts: list[AnsweredContext] = []
    user = b""
    for kind, value in items(body[_FIXED.size :]):
        if kind == 0x21:
            contexts.append(_answered(value))
        elif kind == 0x50:
            user = value
    texts: dict[int, str] = {}
    longest = 0
    for kind, value in items(user):
        if kind == 0x51 and len(value) == 4:
            longest = int.from_bytes(value, "big")
        elif kind in (0x52, 0x55):
            texts[kind] = uid_text(value)
    if 0 < longest < _LEAST_PDU_BYTES:
        raise MalformedPduError(f"The acceptor takes PDUs of {longest} bytes at most.")
    return AssociateAnswer(tuple(contexts), longest, texts.get(0x52, ""), texts.get(0x55, ""))


def _answered(value: bytes) -> AnsweredContext:
    if len(value) < 4:
        raise MalformedPduError("An answered presentation context has no result.")
    context_id, result = value[0], value[2]
    # Where it is not accepted the sub-item has no meaning and may be missing (PS3.8 table 9-18).
    syntaxes = (
        [uid_text(name) for kind, name in items(value[4:]) if kind == 0x40] if not result else []
    )
    return AnsweredContext(context_id, result, syntaxes[0] if syntaxes else "")

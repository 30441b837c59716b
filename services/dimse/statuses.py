"""What a C-STORE status means for who sends (PS3.4 B.2.3, PS3.7 C), as a table.

`delivered`: the receiver has the object. `retry`: it may take it later. `permanent`: the same
object will be refused again, and a person is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class SendOutcome(StrEnum):
    """What an attempt to send an instance came to."""

    DELIVERED = "delivered"
    RETRY = "retry"
    PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class StatusRange:
    """Statuses `first` to `last` and what they mean."""

    first: int
    last: int
    outcome: SendOutcome
    meaning: str


_DONE, _RETRY, _PERMANENT = SendOutcome.DELIVERED, SendOutcome.RETRY, SendOutcome.PERMANENT

STORE_STATUSES: tuple[StatusRange, ...] = (
    StatusRange(0x0000, 0x0000, _DONE, "success"),
    StatusRange(0x0001, 0x0001, _DONE, "warning: requested optional attributes not supported"),
    StatusRange(0x0105, 0x0105, _PERMANENT, "no such attribute"),
    StatusRange(0x0106, 0x0106, _PERMANENT, "invalid attribute value"),
    StatusRange(0x0107, 0x0107, _DONE, "warning: attribute list error"),
    StatusRange(0x0110, 0x0110, _RETRY, "processing failure"),
    # Our UIDs derive from the work: an instance of this UID is this object.
    StatusRange(0x0111, 0x0111, _DONE, "warning: the receiver had it already"),
    StatusRange(0x0112, 0x0112, _PERMANENT, "no such SOP instance"),
    StatusRange(0x0113, 0x0115, _PERMANENT, "no such event, or invalid argument"),
    StatusRange(0x0116, 0x0116, _DONE, "warning: attribute value out of range"),
    StatusRange(0x0117, 0x0119, _PERMANENT, "invalid instance, SOP class or their pairing"),
    StatusRange(0x0120, 0x0121, _PERMANENT, "missing attribute or attribute value"),
    StatusRange(0x0122, 0x0122, _PERMANENT, "SOP class not supported"),
    StatusRange(0x0123, 0x0123, _PERMANENT, "no such action type"),
    StatusRange(0x0124, 0x0124, _PERMANENT, "not authorized"),
    StatusRange(0x0210, 0x0210, _RETRY, "duplicate invocation"),
    StatusRange(0x0211, 0x0211, _PERMANENT, "unrecognized operation"),
    StatusRange(0x0212, 0x0212, _PERMANENT, "mistyped argument"),
    StatusRange(0x0213, 0x0213, _RETRY, "resource limitation"),
    StatusRange(0xA700, 0xA7FF, _RETRY, "out of resources"),
    StatusRange(0xA900, 0xA9FF, _PERMANENT, "data set does not match SOP class"),
    StatusRange(0xB000, 0xB000, _DONE, "warning: stored, with data elements coerced"),
    StatusRange(0xB001, 0xB005, _DONE, "warning: stored, with a remark"),
    StatusRange(0xB006, 0xB006, _DONE, "warning: stored, with data elements discarded"),
    StatusRange(0xB007, 0xB007, _DONE, "warning: stored, data set does not match SOP class"),
    StatusRange(0xB008, 0xBFFF, _DONE, "warning: stored, with a remark"),
    StatusRange(0xC000, 0xCFFF, _PERMANENT, "cannot understand"),
    StatusRange(0xFE00, 0xFE00, _RETRY, "cancelled"),
)

# A status that no table knows: trying again has an end, and a person sees it.
_UNKNOWN = StatusRange(0x0000, 0xFFFF, _RETRY, "a status that PS3.4 and PS3.7 do not know")


def judge_status(status: int) -> StatusRange:
    """What `status` means."""
    for entry in STORE_STATUSES:
        if entry.first <= status <= entry.last:
            return entry
    return _UNKNOWN

"""Why an association was not made, or ended before its time: numbers of PS3.8 in words."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# PS3.8 table 9-21: (source, reason) of an A-ASSOCIATE-RJ.
_REJECTED: Mapping[tuple[int, int], str] = MappingProxyType(
    {
        (1, 1): "no reason given",
        (1, 2): "application context name not supported",
        (1, 3): "calling AE title not recognised",
        (1, 7): "called AE title not recognised",
        (2, 1): "no reason given",
        (2, 2): "protocol version not supported",
        (3, 1): "temporary congestion",
        (3, 2): "local limit exceeded",
    }
)
_FOR_NOW = 2
# PS3.8 table 9-26: reasons of an A-ABORT by the service provider.
_ABORTED: Mapping[int, str] = MappingProxyType(
    {
        0: "no reason given",
        1: "unrecognised PDU",
        2: "unexpected PDU",
        4: "unrecognised PDU parameter",
        5: "unexpected PDU parameter",
        6: "invalid PDU parameter value",
    }
)
# PS3.8 table 9-18: results of a presentation context.
_CONTEXT_RESULTS: Mapping[int, str] = MappingProxyType(
    {
        1: "refused the presentation context",
        2: "refused the presentation context without a reason",
        3: "does not take this SOP class",
        4: "does not take this transfer syntax",
    }
)
# What no other attempt will change.
NEVER_ACCEPTED = frozenset((3, 4))


def rejection_in_words(result: int, source: int, reason: int) -> str:
    """An A-ASSOCIATE-RJ as the end of a sentence: ``rejected the association ...``."""
    how = "for now" if result == _FOR_NOW else "permanently"
    known = _REJECTED.get((source, reason))
    why = known or f"reason {reason} of source {source}, which PS3.8 does not know"
    return f"rejected the association {how}: {why}"


def rejected_for_now(result: int) -> bool:
    """Whether another request may be accepted (PS3.8 table 9-21, rejected-transient)."""
    return result == _FOR_NOW


def abort_in_words(source: int, reason: int) -> str:
    """An A-ABORT as the end of a sentence: ``aborted the association ...``."""
    if source != 2:
        return "aborted the association"
    known = _ABORTED.get(reason, f"reason {reason}")
    return f"aborted the association as its service provider: {known}"


def context_result_in_words(result: int) -> str:
    """Why a presentation context cannot be used, as the end of a sentence."""
    return _CONTEXT_RESULTS.get(result, f"answered the presentation context with result {result}")

"""What was known to be missing of a revision when it was frozen, in words.

It is written down with the revision by the listener: ``announced`` and ``received``, numbers of
instances, where fewer came than were announced; ``broken_off``, the number of series whose sender
broke off and nobody sent on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# PS3.5 table 6.2-1, VR LO: the report's Completion Flag Description.
_LENGTH = 64


def missing_in_short(incomplete: Mapping[str, Any] | None) -> str:
    """At most 64 characters, for the report; empty when nothing was known to be missing."""
    parts = _parts(incomplete or {})
    return "; ".join(parts)[:_LENGTH]


def missing_sentence(incomplete: Mapping[str, Any] | None) -> str:
    """A sentence for people; empty when nothing was known to be missing."""
    parts = _parts(incomplete or {})
    if not parts:
        return ""
    return (
        f"Work began on an incomplete study: {', and '.join(parts)}. What comes later makes a new "
        "revision; send the study again if nothing comes."
    )


def _parts(incomplete: Mapping[str, Any]) -> list[str]:
    parts: list[str] = []
    if "announced" in incomplete:
        announced, received = incomplete["announced"], incomplete.get("received", "?")
        parts.append(f"{received} of {announced} announced images had come")
    if count := incomplete.get("broken_off"):
        series = "1 series was" if count == 1 else f"{count} series were"
        parts.append(f"{series} broken off")
    return parts

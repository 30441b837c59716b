"""Numbers without a place, which a plan makes beside its segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Numbers"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers by name: of the whole run, and of each segment by its number.

    A number that is not known of a segment is not there.
    """

    whole: Mapping[str, float] = field(default_factory=dict[str, float])
    of_segments: Mapping[str, Mapping[int, float]] = field(
        default_factory=dict[str, Mapping[int, float]]
    )

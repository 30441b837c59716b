"""Labels of a data set as the segments of a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.importing.codes import GENERIC, SegmentCodes
from models.importing.colours import colour_cielab

__all__ = ["Label", "segments_of"]


@dataclass(frozen=True, slots=True)
class Label:
    """A number that is written, the name it has in the data set, and what it covers, in words."""

    number: int
    name: str
    covers: str = ""


def segments_of(labels: Sequence[Label], codes: Mapping[str, SegmentCodes]) -> list[dict[str, Any]]:
    """Return the manifest's segments in the order of their numbers.

    Args:
        labels: what is written.
        codes: by the labels' names; a label without has generic ones.
    """
    made: list[dict[str, Any]] = []
    for place, label in enumerate(sorted(labels, key=lambda one: one.number)):
        own = codes.get(label.name, GENERIC)
        segment: dict[str, Any] = {"number": label.number, "label": own.label or label.name[:64]}
        if label.covers:
            segment["description"] = label.covers
        segment["category"] = own.category.model_dump()
        segment["type"] = own.type.model_dump()
        if own.region is not None:
            segment["region"] = own.region.model_dump()
        segment["colour_cielab"] = list(own.colour_cielab or colour_cielab(place))
        made.append(segment)
    return made

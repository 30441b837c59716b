"""Reading measurement groups of a TID 1500 report, independently of what wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset

# A code: scheme and value.
CodeRead = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Number:
    """A NUM item: what was measured, how much, in which unit.

    `below` and `above`: how far from the value the true one may lie (PS3.16 CID 225); None where
    nothing is said.
    """

    concept: CodeRead
    value: float
    unit: CodeRead
    below: Number | None = None
    above: Number | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A measurement group (TID 1411 or 1501).

    Attributes:
        tracking_uid: the first UIDREF of the group, as viewers take it.
        findings: of every Finding item.
        sites: of every Finding Site item.
        numbers: of every NUM item, in their order.
        not_detected: whether the group says that its finding was not detected.
        segment: SOP instance UID and segment numbers of the referenced segment.
    """

    tracking_uid: str
    findings: tuple[CodeRead, ...]
    sites: tuple[CodeRead, ...]
    numbers: tuple[Number, ...]
    not_detected: bool
    segment: tuple[str, tuple[int, ...]] | None


def read_groups(report: Dataset) -> list[Group]:
    """The measurement groups of a report, in order."""
    return [
        _group(item)
        for container in content(report)
        if concept(container) == "126010"
        for item in content(container)
        if concept(item) == "125007"
    ]


def content(item: Dataset) -> Iterator[Dataset]:
    """The content items directly below an item."""
    return iter(item.get("ContentSequence") or [])


def concept(item: Dataset) -> str:
    """Code value of an item's concept name; empty when the item has none."""
    names = item.get("ConceptNameCodeSequence") or []
    return str(names[0].CodeValue) if names else ""


def _group(group: Dataset) -> Group:
    uids = [str(item.UID) for item in content(group) if item.ValueType == "UIDREF"]
    segments = [
        item.ReferencedSOPSequence[0] for item in content(group) if concept(item) == "121191"
    ]
    return Group(
        tracking_uid=uids[0],
        findings=_codes(group, "121071"),
        sites=_codes(group, "363698007"),
        numbers=tuple(_number(item) for item in content(group) if item.ValueType == "NUM"),
        not_detected=any(
            concept(item) == "121052" and item.ConceptCodeSequence[0].CodeValue == "260415000"
            for item in content(group)
        ),
        segment=_segment(segments[0]) if segments else None,
    )


def _codes(group: Dataset, name: str) -> tuple[CodeRead, ...]:
    return tuple(
        _code(item.ConceptCodeSequence[0]) for item in content(group) if concept(item) == name
    )


def _number(item: Dataset) -> Number:
    measured = item.MeasuredValueSequence[0]
    properties = {concept(below): _number(below) for below in content(item) if _is_property(below)}
    return Number(
        _code(item.ConceptNameCodeSequence[0]),
        float(measured.NumericValue),
        _code(measured.MeasurementUnitsCodeSequence[0]),
        properties.get("371885007"),
        properties.get("371886008"),
    )


def _is_property(item: Dataset) -> bool:
    return item.ValueType == "NUM" and item.RelationshipType == "HAS PROPERTIES"


def _code(item: Dataset) -> CodeRead:
    return str(item.CodingSchemeDesignator), str(item.CodeValue)


def _segment(reference: Dataset) -> tuple[str, tuple[int, ...]]:
    numbers = reference.ReferencedSegmentNumber
    several = [numbers] if isinstance(numbers, int) else list(numbers)
    return str(reference.ReferencedSOPInstanceUID), tuple(int(number) for number in several)

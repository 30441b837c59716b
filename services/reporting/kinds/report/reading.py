"""Reading measurement groups of a TID 1500 report, independently of what wrote it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Group:
    """A measurement group (TID 1411 or 1501).

    Attributes:
        tracking_uid: the first UIDREF of the group, as viewers take it.
        volumes: (value, UCUM unit) of every NUM item.
        not_detected: whether the group says that its finding was not detected.
        segment: SOP instance UID and segment numbers of the referenced segment.
    """

    tracking_uid: str
    volumes: tuple[tuple[float, str], ...]
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
    """The content items directly below one."""
    return iter(item.get("ContentSequence") or [])


def concept(item: Dataset) -> str:
    """Code value of an item's concept name; empty when it has none."""
    names = item.get("ConceptNameCodeSequence") or []
    return str(names[0].CodeValue) if names else ""


def _group(group: Dataset) -> Group:
    uids = [str(item.UID) for item in content(group) if item.ValueType == "UIDREF"]
    numbers = [item.MeasuredValueSequence[0] for item in content(group) if item.ValueType == "NUM"]
    segments = [
        item.ReferencedSOPSequence[0] for item in content(group) if concept(item) == "121191"
    ]
    return Group(
        tracking_uid=uids[0],
        volumes=tuple(
            (float(each.NumericValue), str(each.MeasurementUnitsCodeSequence[0].CodeValue))
            for each in numbers
        ),
        not_detected=any(
            concept(item) == "121052" and item.ConceptCodeSequence[0].CodeValue == "260415000"
            for item in content(group)
        ),
        segment=_segment(segments[0]) if segments else None,
    )


def _segment(reference: Dataset) -> tuple[str, tuple[int, ...]]:
    numbers = reference.ReferencedSegmentNumber
    several = [numbers] if isinstance(numbers, int) else list(numbers)
    return str(reference.ReferencedSOPInstanceUID), tuple(int(number) for number in several)

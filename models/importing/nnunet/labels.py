"""What nnU-Net's scores become: the rule of a decision, and the labels that it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from models.importing.errors import NotImportableError
from models.importing.nnunet.published import Dataset
from models.importing.segments import Label

__all__ = ["Labels", "labels_of"]

_IGNORE: Final = "ignore"
_MOST: Final = 255


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels, and the decision that makes them.

    Attributes:
        heads: scores of a voxel.
        rule: of the step `decide`, over logits.
        labels: every label but the background.
    """

    heads: int
    rule: dict[str, Any]
    labels: tuple[Label, ...]


def labels_of(dataset: Dataset) -> Labels:
    """Return how nnU-Net decides; NotImportableError where labels are not as it wants them."""
    named = {name: value for name, value in dataset.labels.items() if name != _IGNORE}
    if any(isinstance(value, tuple) and len(value) > 1 for value in named.values()):
        return _regions(named, dataset.regions_class_order)
    numbers = {name: _one(value) for name, value in named.items()}
    ordered = sorted((number, name) for name, number in numbers.items())
    if [number for number, _ in ordered] != list(range(len(ordered))):
        raise NotImportableError(
            f"dataset.json: the labels are numbered {[number for number, _ in ordered]}. nnU-Net "
            "trains labels 0, 1, 2 and so on without gaps."
        )
    labels = tuple(Label(number, name) for number, name in ordered if number)
    _require_room(labels)
    rule = {"kind": "argmax", "segments": [label.number for label in labels]}
    return Labels(len(ordered), rule, labels)


def _regions(named: dict[str, int | tuple[int, ...]], order: tuple[int, ...] | None) -> Labels:
    regions = [(name, value) for name, value in named.items() if _numbers(value) != {0}]
    if order is None or len(order) != len(regions):
        raise NotImportableError(
            f"dataset.json: {len(regions)} regions need as many numbers in regions_class_order, "
            f"and it has {list(order or ())}."
        )
    if len(set(order)) != len(order) or 0 in order:
        raise NotImportableError(
            f"dataset.json: regions_class_order {list(order)} names a number twice, or the "
            "background."
        )
    labels: list[Label] = []
    for place, ((name, _), number) in enumerate(zip(regions, order, strict=True)):
        later = [other for other, _ in regions[place + 1 :]]
        covers = f"{name}, but for what is {' or '.join(later)}" if later else name
        labels.append(Label(number, name, covers))
    _require_room(labels)
    # A probability above one half is a logit above zero.
    rule = {"kind": "regions", "at": 0.0, "segments": list(order)}
    return Labels(len(regions), rule, tuple(labels))


def _one(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]


def _numbers(value: int | tuple[int, ...]) -> set[int]:
    return {value} if isinstance(value, int) else set(value)


def _require_room(labels: tuple[Label, ...] | list[Label]) -> None:
    if not labels:
        raise NotImportableError("dataset.json has no label beside the background.")
    if max(label.number for label in labels) > _MOST:
        raise NotImportableError(
            f"dataset.json has labels above {_MOST}, and a segmentation here has no more."
        )

"""What a plan will do with a scan: each step with the grid, the voxels and the memory it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from models.manifest import Manifest
from models.manifest.alignment import aligns_of
from models.manifest.plan import (
    AnyStep,
    GridType,
    ImageType,
    LayersType,
    NumbersType,
    ScoresType,
    ValueType,
    check_plan,
)
from models.manifest.plan.crop import Crop
from models.manifest.plan.decide import Decide
from models.manifest.plan.infer import Infer
from models.manifest.plan.members import kept_apart
from models.manifest.plan.orient import Orient
from models.manifest.plan.pad import Pad
from models.manifest.plan.register import Register
from models.manifest.plan.resample import Resample
from models.manifest.plan.restore import Restore
from models.runtime.grid import Grid, Shape, source_grid
from models.runtime.source_volume import SourceVolume

__all__ = ["ExplainedStep", "explain"]

_MIB = float(1 << 20)
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class ExplainedStep:
    """One step on a given scan.

    Attributes:
        do: the step's name.
        reads: the values it reads.
        makes: the value it makes.
        what: its settings, in words.
        kind: what the value is: an image, scores, segments, a map or numbers.
        shape: voxels along each array axis; of what a crop leaves, the most that it can be.
        spacing_mm: between them.
        at_most: whether the shape is the most that it can be.
        mib: what the value holds in memory, at most.
    """

    do: str
    reads: tuple[str, ...]
    makes: str
    what: str
    kind: str
    shape: Shape
    spacing_mm: tuple[float, float, float]
    at_most: bool
    mib: float


def explain(
    manifest: Manifest, shape: Shape, spacing_mm: tuple[float, float, float]
) -> list[ExplainedStep]:
    """Follow a plan over a scan [slices, rows, columns] that lies straight in the patient.

    Args:
        manifest: of the model, linted.
        shape: of the scan of every role.
        spacing_mm: between slices, rows and columns.
    """
    facts = {name: network.facts for name, network in manifest.networks.items()}
    outputs = tuple(output.of for output in manifest.outputs)
    checked = check_plan(
        manifest.plan, tuple(manifest.roles), outputs, facts, aligns_of(manifest.roles)
    )
    affine = np.diag([spacing_mm[2], spacing_mm[1], spacing_mm[0], 1.0])
    scan = SourceVolume(np.broadcast_to(np.zeros((), np.int16), shape), affine)
    grids: dict[str, Grid] = {role: source_grid(role, scan) for role in manifest.roles}
    at_most = dict.fromkeys(grids, False)
    explained: list[ExplainedStep] = []
    for step, value in zip(manifest.plan, checked.made, strict=True):
        grid = _grid(step, value, grids)
        grids[step.out] = grid
        onto = step.onto.like if isinstance(step, Resample) else None
        at_most[step.out] = at_most[onto or step.in_] or isinstance(step, Crop)
        fixed = isinstance(step, Resample) and step.onto.shape is not None
        if fixed or isinstance(step, Restore):
            at_most[step.out] = False
        explained.append(
            ExplainedStep(
                do=step.do,
                reads=step.reads(),
                makes=step.out,
                what=_what(step),
                kind=_kind(value, manifest, step),
                shape=grid.shape,
                spacing_mm=grid.spacing_mm,
                at_most=at_most[step.out],
                mib=_bytes(step, value, grid, manifest) / _MIB,
            )
        )
    return explained


def _grid(step: AnyStep, value: ValueType, grids: dict[str, Grid]) -> Grid:
    before = grids[step.in_]
    if isinstance(step, Orient):
        return before.turned(before.turn_to(step.axes))
    if isinstance(step, Pad):
        return before.padded(step.padded(before.shape))
    if isinstance(step, Resample):
        if step.onto.like is not None:
            return grids[step.onto.like]
        return before.resampled(
            step.centres or "half-pixel",
            shape=step.onto.shape,
            spacing_mm=step.onto.spacing_beside(before.spacing_mm),
        )
    if isinstance(step, Restore) or value.grid == GridType(value.grid.role):
        return grids[value.grid.role]
    return before


def _kind(value: ValueType, manifest: Manifest, step: AnyStep) -> str:
    if isinstance(value, ImageType):
        return "image" if value.channels == 1 else f"image, {value.channels} channels"
    if isinstance(value, ScoresType):
        if isinstance(step, Infer) and manifest.head_of(step.members[0]).threshold:
            return "0 or 1, decided in the network"
        return f"scores, {value.classes} classes"
    if isinstance(value, LayersType):
        return f"segments {_ranges(value.segments)}"
    if isinstance(value, NumbersType):
        return f"numbers: {', '.join(value.names)}"
    return f"map of {value.quantity}"


def _ranges(numbers: Sequence[int]) -> str:
    """Write 1, 2, 3, 7 as "1-3, 7"."""
    parts: list[str] = []
    first = 0
    for place, number in enumerate(numbers):
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            begin = numbers[first]
            parts.append(str(number) if begin == number else f"{begin}-{number}")
            first = place + 1
    return ", ".join(parts)


def _bytes(step: AnyStep, value: ValueType, grid: Grid, manifest: Manifest) -> float:
    """Return what a value holds: an image that only says which voxels are meant holds none."""
    voxels = float(np.prod(grid.shape))
    if isinstance(value, ImageType):
        named_only = isinstance(step, Orient | Crop | Register) or (
            isinstance(step, Resample) and step.order == "nearest" and step.onto.like is None
        )
        return 0.0 if named_only else voxels * _FLOAT * value.channels
    if isinstance(value, NumbersType):
        return 0.0
    if isinstance(value, LayersType) and isinstance(step, Decide) and value.decided_from:
        apart = step.out in kept_apart(manifest.plan)
        # The whole and each member where the scores lie, beside what is decided.
        return voxels * (2 + value.decided_from.members if apart else 1)
    if isinstance(value, ScoresType) and isinstance(step, Restore):
        return 0.0  # interpolated where they are decided
    if isinstance(value, ScoresType):
        decided = isinstance(step, Infer) and manifest.head_of(step.members[0]).threshold
        return voxels * (1 if decided else _FLOAT * value.classes)
    return voxels


def _what(step: AnyStep) -> str:
    """Return a step's settings in one line, without the names of values."""
    dumped = step.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return ", ".join(
        f"{key} {_shown(value)}"
        for key, value in dumped.items()
        if key not in ("do", "in", "out", "and")
    )


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        parts = cast(dict[str, Any], value)
        return " ".join(
            _shown(below) if key == "kind" else f"{key} {_shown(below)}"
            for key, below in parts.items()
        )
    if isinstance(value, list):
        many = cast(list[Any], value)
        return (" x " if all(isinstance(one, int | float) for one in many) else ", ").join(
            map(str, many)
        )
    return str(value)

"""What networks gave, merged: scores on a grid, slab by slab. Arrays are NumPy's or torch's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.manifest.plan.infer import Activation
from models.runtime.grid import Grid

__all__ = ["Restored", "Scores", "Slab"]


@dataclass(frozen=True, eq=False, slots=True)
class Slab:
    """Finished scores of some planes.

    `scores`: float32 [k, a0, a1, a2], which spans the grid but along `axis` (0, 1 or 2), where it
    holds the planes from `first` to before `end`. `members`: of each member its own scores there,
    where a later step asks for them (`models.manifest.plan.members`).
    """

    axis: int
    first: int
    end: int
    scores: Any
    members: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """Scores are wanted on the grid `to`; `nearest_across`: see `restoring.restore_classes`."""

    to: Grid
    nearest_across: bool


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """What networks gave, merged: slabs in rising order that together span the grid.

    All slabs run along one axis. They can be gone through once; the next slab may use the memory
    of the last. `classes` counts the scores of a voxel. `restored`: the grid on which they are
    wanted, interpolated where they are decided; None: their own. `kind`: the activation that made
    probabilities of them.
    """

    slabs: Iterator[Slab]
    grid: Grid
    classes: int
    restored: Restored | None = None
    kind: Activation = "none"

"""What the steps of a plan hand on: arrays that know their grid.

Arrays are NumPy's or torch's. Nothing here copies voxels, but flips of torch tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.runtime.errors import RequestError
from models.runtime.grid import SAME_PLACE_MM, Box, Grid, Shape, Turn

__all__ = [
    "SAME_PLACE_MM",
    "Box",
    "Grid",
    "Image",
    "Layers",
    "Numbers",
    "Scores",
    "Shape",
    "Slab",
    "Turn",
]

_LABEL_TYPES = ("uint8", "uint16")


@dataclass(frozen=True, eq=False, slots=True)
class Image:
    """Channels on one grid.

    `array`: float32 [c, a0, a1, a2], finite everywhere; `measured`: bool [a0, a1, a2], false where
    the scanner measured nothing (the array then holds what the plan puts there), None where all
    was measured. Raises RequestError for arrays that do not fit the grid.
    """

    array: Any
    grid: Grid
    measured: Any | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or tuple(self.array.shape[1:]) != self.grid.shape:
            raise RequestError(f"Channels {list(self.array.shape)} do not fit {self.grid.shape}.")
        if self.measured is not None and tuple(self.measured.shape) != self.grid.shape:
            raise RequestError(f"Mask {list(self.measured.shape)} does not fit {self.grid.shape}.")

    @property
    def channels(self) -> int:
        """How many there are."""
        return int(self.array.shape[0])

    def turned(self, axes: str) -> Image:
        """Return the image with axes that point to the letters; see `Grid.turn_to`."""
        turn = self.grid.turn_to(axes)
        measured = None if self.measured is None else turn.apply(self.measured)
        return Image(turn.apply(self.array), self.grid.turned(turn), measured)

    def cropped(self, box: Box) -> Image:
        """Return the image inside a box of its grid, a view. Raises RequestError for another's."""
        _same_grid(box.grid, self.grid)
        measured = None if self.measured is None else box.cut(self.measured)
        return Image(box.cut(self.array), box.inside, measured)


@dataclass(frozen=True, eq=False, slots=True)
class Slab:
    """Finished scores of some planes.

    `scores`: float32 [k, a0, a1, a2], which spans the grid but along `axis` (0, 1 or 2), where it
    holds the planes from `first` to before `end`.
    """

    axis: int
    first: int
    end: int
    scores: Any


@dataclass(frozen=True, eq=False, slots=True)
class Scores:
    """What networks gave, merged: slabs in rising order that together span the grid.

    All slabs run along one axis. They can be gone through once; the next slab may use the memory
    of the last. `classes` counts the scores of a voxel.
    """

    slabs: Iterator[Slab]
    grid: Grid
    classes: int


@dataclass(frozen=True, eq=False, slots=True)
class Layers:
    """Labels that exclude each other: `array` uint8 or uint16 [a0, a1, a2] on the grid.

    Raises RequestError for an array that does not fit the grid or is of another type.
    """

    array: Any
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise RequestError(f"Labels {list(self.array.shape)} do not fit {self.grid.shape}.")
        if str(self.array.dtype).removeprefix("torch.") not in _LABEL_TYPES:
            raise RequestError(f"Labels are {' or '.join(_LABEL_TYPES)}, not {self.array.dtype}.")

    def turned(self, axes: str) -> Layers:
        """Return the labels with axes that point to the letters; see `Grid.turn_to`."""
        turn = self.grid.turn_to(axes)
        return Layers(turn.apply(self.array), self.grid.turned(turn))

    def cropped(self, box: Box) -> Layers:
        """Return the labels inside a box of their grid. Raises RequestError for another's."""
        _same_grid(box.grid, self.grid)
        return Layers(box.cut(self.array), box.inside)


@dataclass(frozen=True, eq=False, slots=True)
class Numbers:
    """Values by name, such as a probability or an angle; units are the plan's."""

    of: Mapping[str, float]


def _same_grid(one: Grid, other: Grid) -> None:
    if not one.same_as(other):
        raise RequestError(f"A box of {one.shape} voxels is not on the grid of {other.shape}.")

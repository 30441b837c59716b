"""What a plan's values are, as far as a manifest tells: for checking, not for running."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "GridType",
    "ImageType",
    "LayersType",
    "MapType",
    "NumbersType",
    "ScoresType",
    "ValueType",
]

Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class GridType:
    """A grid by its history: two values lie on one grid when their histories are the same.

    Attributes:
        role: the input whose slices the grid began as.
        made_by: what was done to it since, each by words that name the step and its settings.
        shape: voxels along each array axis where a step fixes them; None: the scan's matter.
        spacing_mm: likewise.
        axes: where each array axis points ("RAS"), or which of the scan's own it is ("kji"); None:
            nobody said.
        frame: the input in whose frame of reference the grid lies; it follows from the history.
    """

    role: str
    made_by: tuple[str, ...] = ()
    shape: Shape | None = None
    spacing_mm: tuple[float, float, float] | None = None
    axes: str | None = None
    frame: str = field(default="", compare=False)

    def __str__(self) -> str:
        return " > ".join((self.role, *self.made_by))


@dataclass(frozen=True, slots=True)
class ImageType:
    """Values float32 [channels, a0, a1, a2] on a grid.

    `filled`: whether voxels that were not measured have a value; they are not-a-number until then.
    """

    grid: GridType
    channels: int = 1
    filled: bool = False


@dataclass(frozen=True, slots=True)
class ScoresType:
    """Scores [classes, a0, a1, a2] on a grid, of `members` networks.

    `kind`: softmax (sum to 1 over the classes), sigmoid (each class by itself) or none (what the
    networks themselves make).
    """

    grid: GridType
    classes: int
    kind: str
    members: int = 1


@dataclass(frozen=True, slots=True)
class LayersType:
    """Segment numbers [a0, a1, a2] on a grid; of the `segments`, a voxel has one or none.

    `decided_from`: the scores that one step decided; None where segments were made of segments.
    """

    grid: GridType
    segments: tuple[int, ...]
    decided_from: ScoresType | None = None


@dataclass(frozen=True, slots=True)
class MapType:
    """One value float32 a voxel [a0, a1, a2] on a grid, e.g. an entropy."""

    grid: GridType
    quantity: str


@dataclass(frozen=True, slots=True)
class NumbersType:
    """Numbers of each of `segments`, by `names`; volumes are counted on the grid."""

    grid: GridType
    segments: tuple[int, ...]
    names: tuple[str, ...]


ValueType = ImageType | ScoresType | LayersType | MapType | NumbersType

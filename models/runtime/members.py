"""What each member of an ensemble alone would have found, beside what all found together.

Scores come once and in slabs; here every member is decided as they pass. Held is one byte a voxel
and member, and no score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import PipelineError
from models.runtime.grid import Grid
from models.runtime.merging.uncertainty import entropy, mutual_information, region_entropy
from models.runtime.scores import Scores, Slab
from models.runtime.segments import Segments

__all__ = ["Members", "MembersWatch", "Unsure"]

U8 = NDArray[np.uint8]
F64 = NDArray[np.float64]
_NUMBERS: Final = 256


@dataclass(frozen=True, slots=True)
class Unsure:
    """Means over the voxels of one segment, each as a share of the most that there can be."""

    entropy: float
    mutual_information: float


@dataclass(frozen=True, slots=True)
class Members:
    """The segments of an ensemble on the grid of its scores.

    Attributes:
        whole: what the merged scores say there.
        each: what each member's own scores say, by the same rule.
        segments: the numbers that the rule may give.
        unsure: of each segment that the whole has; nothing where scores are no probabilities.
        on_slices: whether they are wanted where the scan was measured.
    """

    whole: Segments
    each: tuple[Segments, ...]
    segments: tuple[int, ...]
    unsure: Mapping[int, Unsure]
    on_slices: bool = False

    def changed(self, change: Callable[[Segments], Segments]) -> Members:
        """Return them with the same done to the whole and to each."""
        return replace(self, whole=change(self.whole), each=tuple(map(change, self.each)))


class MembersWatch:
    """Looks at scores as they pass by, and decides them for each member.

    Args:
        scores: whose slabs hold the members' own scores.
        segments: the numbers that `decide` may give.
        decide: makes segments uint8 [...] of scores [k, ...].
    """

    def __init__(
        self, scores: Scores, segments: tuple[int, ...], decide: Callable[[Any], U8]
    ) -> None:
        self._segments: Final = segments
        self._on_slices: Final = scores.restored is not None
        self._grid: Final[Grid] = scores.grid
        self._kind: Final = scores.kind
        self._classes: Final = scores.classes
        self._decide: Final = decide
        self._labels: Final[list[U8]] = []
        self._sums: Final = np.zeros((2, _NUMBERS), np.float64)
        self._voxels: Final = np.zeros(_NUMBERS, np.int64)
        self._slabs: Final = self._watched(scores.slabs)
        self.scores: Final = replace(scores, slabs=self._slabs)

    def members(self) -> Members:
        """Return what was seen; slabs that nobody asked for are asked for now."""
        for _ in self._slabs:
            pass
        whole, *each = (Segments.of(self._grid, labels) for labels in self._labels)
        unsure = {
            int(number): Unsure(*(self._sums[:, number] / self._voxels[number]).tolist())
            for number in np.flatnonzero(self._voxels)
        }
        return Members(whole, tuple(each), self._segments, unsure, self._on_slices)

    def _watched(self, slabs: Iterator[Slab]) -> Iterator[Slab]:
        for slab in slabs:
            if not slab.members:
                raise PipelineError("The scores of members were merged and are not apart.")
            found = [self._decide(scores) for scores in (slab.scores, *slab.members)]
            if not self._labels:
                self._labels.extend(np.zeros(self._grid.shape, np.uint8) for _ in found)
            planes = (slice(None),) * slab.axis + (slice(slab.first, slab.end),)
            for labels, part in zip(self._labels, found, strict=True):
                labels[planes] = part
            if self._kind != "none":
                self._add(slab, found[0])
            yield slab

    def _add(self, slab: Slab, whole: U8) -> None:
        """Add up how unsure voxels of segments are; the background is not asked."""
        at = whole > 0
        numbers = whole[at]
        if not len(numbers):
            return
        merged = slab.scores[:, at]
        members = [scores[:, at] for scores in slab.members]
        self._voxels[:] += np.bincount(numbers, minlength=_NUMBERS)
        for place, unsure in enumerate(self._of_voxels(merged, members)):
            self._sums[place] += np.bincount(numbers, unsure, _NUMBERS)

    def _of_voxels(self, merged: Any, members: list[Any]) -> tuple[F64, F64]:
        """Return entropy and mutual information [n], as shares; of regions the most unsure one."""
        if self._kind == "sigmoid":
            most = math.log(2.0)
            shared = _region_information(members).max(axis=0)
            return region_entropy(merged).max(axis=0) / most, shared / most
        most = math.log(self._classes) if self._classes > 1 else 1.0
        return entropy(merged) / most, mutual_information(members) / most


def _region_information(members: list[Any]) -> Any:
    """Return the mutual information [r, ...] of each region by itself."""
    both = [np.stack([member, 1.0 - member]) for member in members]
    return mutual_information(both)

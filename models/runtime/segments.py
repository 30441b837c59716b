"""Segments between the steps of a run: numbers in a box, nothing outside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.runtime.components import foreground_box
from models.runtime.crew import Crew
from models.runtime.grid import Box, Cropped, Grid, Moved, Oriented, Padded, Resampled
from models.runtime.resample import repeat_into

__all__ = ["Segments", "box_around", "within"]

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Segments:
    """Segment numbers uint8 on a grid.

    `labels` [a0, a1, a2] fill `box` of the grid, and no foreground lies outside it; None: there is
    none at all. The holder may change `labels`.
    """

    grid: Grid
    labels: U8 | None
    box: Box

    @classmethod
    def of(cls, grid: Grid, labels: U8) -> Segments:
        """Return labels of a whole grid, by the tight box around what they hold."""
        tight = foreground_box(labels)
        if tight is None:
            return cls.none(grid)
        return cls(grid, labels[tight], tight)

    @classmethod
    def none(cls, grid: Grid) -> Segments:
        """Return that nothing was found."""
        return cls(grid, None, (slice(0, 0), slice(0, 0), slice(0, 0)))

    def restored(self, crew: Crew) -> Segments:
        """Undo all changes of the grid, the last first, by the nearest voxel."""
        found = self
        while found.grid.before is not None:
            found = found.undone(crew)
        return found

    def undone(self, crew: Crew) -> Segments:
        """Undo the last change of the grid; only resampled labels are copied."""
        change, grid = self.grid.change, self.grid.before
        if grid is None or change is None:
            raise ValueError("nothing was done to this grid")
        if self.labels is None:
            return Segments.none(grid)
        if isinstance(change, Oriented):
            return Segments(grid, change.turn.back.apply(self.labels), self._turned_box(change))
        if isinstance(change, Cropped):
            first, second, third = (
                slice(inside.start + side.start, inside.stop + side.start)
                for inside, side in zip(self.box, change.box, strict=True)
            )
            return Segments(grid, self.labels, (first, second, third))
        if isinstance(change, Padded):
            return self._without_padding(change, grid)
        if isinstance(change, Moved):
            raise TypeError("labels on a grid that was moved have no slices to return to")
        return self._magnified(change, grid, crew)

    def write(self, out: U8, crew: Crew) -> None:
        """Write the labels into `out` [k, j, i], the source's slices, which hold zeros."""
        found = self.labels
        if found is None:
            return
        if self.grid.before is not None:
            raise TypeError("labels are written that were not restored")
        # Plane by plane of where both may lie far apart, because they may differ in the order of
        # their axes: across the axis that is the middle one in the labels' memory.
        middle = sorted(range(3), key=lambda axis: -abs(found.strides[axis]))[1]
        place, labels = (np.moveaxis(one, middle, 0) for one in (out[self.box], found))

        def write(first: int, end: int) -> None:
            for plane in range(first, end):
                place[plane] = labels[plane]

        crew.share(len(labels), write)

    def _without_padding(self, change: Padded, grid: Grid) -> Segments:
        """Cut off what lies in the voxels that were put around."""
        kept: list[slice] = []
        sides: list[slice] = []
        for inside, part in zip(self.box, change.box, strict=True):
            first, end = max(inside.start, part.start), min(inside.stop, part.stop)
            if end <= first:
                return Segments.none(grid)
            kept.append(slice(first - inside.start, end - inside.start))
            sides.append(slice(first - part.start, end - part.start))
        labels = None if self.labels is None else self.labels[tuple(kept)]
        return Segments(grid, labels, (sides[0], sides[1], sides[2]))

    def _turned_box(self, change: Oriented) -> Box:
        """Return the box before the axes were permuted and flipped."""
        back = change.turn.back
        sides: list[slice] = []
        for axis, flipped in zip(back.order, back.flipped, strict=True):
            side, length = self.box[axis], self.grid.shape[axis]
            turned = slice(length - side.stop, length - side.start)
            sides.append(turned if flipped else side)
        return sides[0], sides[1], sides[2]

    def _magnified(self, change: Resampled, grid: Grid, crew: Crew) -> Segments:
        """Bring the labels back to the voxels that the resampled grid was made of."""
        axes: list[NDArray[np.intp]] = []
        sides: list[slice] = []
        for axis, inside in enumerate(self.box):
            index = change.nearest_new(axis)
            # Indices rise, so that the voxels that look into the foreground are neighbours.
            first = int(np.searchsorted(index, inside.start))
            end = int(np.searchsorted(index, inside.stop))
            if end <= first:
                return Segments.none(grid)
            axes.append(index[first:end] - inside.start)
            sides.append(slice(first, end))
        if self.labels is None:
            return Segments.none(grid)
        back = np.empty([len(index) for index in axes], np.uint8)
        repeat_into(self.labels, (axes[0], axes[1], axes[2]), back, crew)
        return Segments(grid, back, (sides[0], sides[1], sides[2]))


def box_around(found: Sequence[Segments]) -> Box | None:
    """Return the box that holds all that any of them has; None where none has anything."""
    boxes = [one.box for one in found if one.labels is not None]
    if not boxes:
        return None
    first, second, third = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return first, second, third


def within(found: Segments, box: Box) -> U8:
    """Return the labels [a0, a1, a2] of a box that holds all foreground."""
    labels = np.zeros([side.stop - side.start for side in box], np.uint8)
    if found.labels is not None:
        at = tuple(
            slice(own.start - side.start, own.stop - side.start)
            for own, side in zip(found.box, box, strict=True)
        )
        labels[at] = found.labels
    return labels

"""Segments between the steps of a run: numbers in a box, nothing outside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.runtime.components import foreground_box
from models.runtime.crew import Crew
from models.runtime.grid import Box, Cropped, Grid, Oriented, Resampled
from models.runtime.resample import repeat_into

__all__ = ["Segments"]

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
        """Undo all changes of the grid but the orientation, by the nearest voxel."""
        found = self
        while found.grid.before is not None and not isinstance(found.grid.change, Oriented):
            found = found.undone(crew)
        return found

    def undone(self, crew: Crew) -> Segments:
        """Undo the last change of the grid, a crop or a resampling."""
        change, grid = self.grid.change, self.grid.before
        if grid is None or change is None or isinstance(change, Oriented):
            raise ValueError("an orientation is undone by `write`")
        if self.labels is None:
            return Segments.none(grid)
        if isinstance(change, Cropped):
            first, second, third = (
                slice(inside.start + side.start, inside.stop + side.start)
                for inside, side in zip(self.box, change.box, strict=True)
            )
            return Segments(grid, self.labels, (first, second, third))
        return self._magnified(change, grid, crew)

    def write(self, out: U8, crew: Crew) -> None:
        """Write the labels into `out` [k, j, i], the source's slices, which hold zeros."""
        if self.labels is None:
            return
        place, labels, change = out, self.labels, self.grid.change
        if isinstance(change, Oriented):
            place = change.turn.apply(place)
        elif change is not None:
            raise TypeError("labels are written that were not restored")
        place = place[self.box]

        def write(first: int, end: int) -> None:
            # Plane by plane, because the two differ in the order of their axes.
            for middle in range(first, end):
                place[:, middle] = labels[:, middle]

        crew.share(labels.shape[1], write)

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

"""Images between the steps of a run: no voxel is moved before a step needs its value.

Orienting, cropping and resampling to the nearest voxel only say which voxels of the source are
meant (`Picked`). Scaling touches each distinct voxel once and leaves the last multiplication and
the repetition to who writes into a network's input (`Scaled`). Everything else is an array.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.grid import Box, Grid
from models.runtime.intensity import Scaling
from models.runtime.orientation import Turn
from models.runtime.resample import Axes, gather, repeat_into
from models.runtime.source_volume import SourceVolume

__all__ = ["Channel", "Distinct", "Held", "Image", "Picked", "Scaled"]

F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Distinct:
    """Each voxel that occurs once: float32 [a0, a1, a2], and what was made of them.

    `counts`: per axis, how often each place stands in the image. `inverse`: per axis, the place of
    each of the image's voxels; None where every place stands once, in order.
    """

    values: F32
    counts: Axes
    inverse: Axes | None


@dataclass(frozen=True, slots=True)
class Picked:
    """Voxels of the source at `places` of its turned axes."""

    source: SourceVolume
    turn: Turn
    places: Axes

    def cropped(self, box: Box) -> Picked:
        """Return the part in `box`."""
        places = cast(Axes, tuple(axis[side] for axis, side in zip(self.places, box, strict=True)))
        return replace(self, places=places)

    def stored(self) -> NDArray[Any] | None:
        """View the stored voxels [a0, a1, a2]; None where places are left out or repeated."""
        if any((np.diff(axis) != 1).any() for axis in self.places):
            return None
        first, second, third = (slice(int(axis[0]), int(axis[-1]) + 1) for axis in self.places)
        return self.turn.apply(self.source.voxels)[first, second, third]

    def distinct(self, crew: Crew) -> Distinct:
        """Gather each voxel that is meant once, however often it stands in the image."""
        unique = [np.unique(axis, return_inverse=True, return_counts=True) for axis in self.places]
        counts = cast(Axes, tuple(axis[2] for axis in unique))
        if all((axis == 1).all() for axis in counts):
            # Places rise, as all that picks them does: nothing is sorted by that.
            return Distinct(gather(self.source, self.turn, self.places, crew), counts, None)
        places = cast(Axes, tuple(axis[0] for axis in unique))
        inverse = cast(Axes, tuple(axis[1] for axis in unique))
        return Distinct(gather(self.source, self.turn, places, crew), counts, inverse)

    def write(self, out: F32, crew: Crew) -> None:
        """Write the values to `out` [a0, a1, a2]."""
        out[...] = gather(self.source, self.turn, self.places, crew)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Distinct values, the scaling that is left to do, and how they are repeated."""

    values: F32
    scaling: Scaling
    inverse: Axes | None

    def cropped(self, box: Box) -> Scaled:
        """Return the part in `box`."""
        if self.inverse is None:
            return replace(self, values=self.values[box])
        inverse = cast(
            Axes, tuple(axis[side] for axis, side in zip(self.inverse, box, strict=True))
        )
        return replace(self, inverse=inverse)

    def distinct(self, crew: Crew) -> Distinct:
        """Return a copy that the caller may change; repeated voxels count as often."""
        shape = self.values.shape if self.inverse is None else [len(one) for one in self.inverse]
        whole = np.empty(shape, np.float32)
        self.write(whole, crew)
        return Distinct(whole, cast(Axes, tuple(np.ones(n, np.intp) for n in whole.shape)), None)

    def write(self, out: F32, crew: Crew) -> None:
        """Write the values to `out` [a0, a1, a2], each scaled once."""
        if self.inverse is None:
            self.scaling.write_all(self.values, out, crew)
        else:
            repeat_into(self.values, self.inverse, out, crew, self.scaling.write)


@dataclass(frozen=True, slots=True)
class Held:
    """Values float32 [a0, a1, a2] in memory; NaN where nothing was measured."""

    values: F32

    def cropped(self, box: Box) -> Held:
        """Return the part in `box`; no copy."""
        return Held(self.values[box])

    def distinct(self, crew: Crew) -> Distinct:
        """Return a copy that the caller may change; every voxel counts once."""
        counts = cast(Axes, tuple(np.ones(side, np.intp) for side in self.values.shape))
        copied = np.empty_like(self.values, order="C")
        self.write(copied, crew)
        return Distinct(copied, counts, None)

    def write(self, out: F32, crew: Crew) -> None:
        """Write the values to `out` [a0, a1, a2]."""

        def work(first: int, end: int) -> None:
            out[first:end] = self.values[first:end]

        crew.share(len(self.values), work)


Channel = Picked | Scaled | Held


@dataclass(frozen=True, slots=True)
class Image:
    """Channels of one grid."""

    grid: Grid
    channels: tuple[Channel, ...]

    def cropped(self, box: Box) -> Image:
        """Return the part in `box`."""
        return Image(self.grid.cropped(box), tuple(one.cropped(box) for one in self.channels))

    def arrays(self, crew: Crew) -> tuple[F32, ...]:
        """Return each channel's values [a0, a1, a2]; only to be read."""
        made: list[F32] = []
        for channel in self.channels:
            if isinstance(channel, Held):
                made.append(channel.values)
                continue
            made.append(np.empty(self.grid.shape, np.float32))
            channel.write(made[-1], crew)
        return tuple(made)

"""Step `resample`: see `models.manifest.plan.resample`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.resample import Resample
from models.runtime.crew import Crew
from models.runtime.filling import fill_unmeasured
from models.runtime.grid import Resampled, Shape
from models.runtime.images import Channel, Held, Image, Picked
from models.runtime.onto_grid import onto_grid
from models.runtime.resample import Axes
from models.runtime.running import Run
from models.runtime.separable import resample as interpolate
from models.runtime.separate_z import resample_as_nnunet

__all__ = ["resample"]

F32 = NDArray[np.float32]
# A whole body of 0.5 x 0.5 x 0.6 m at 0.5 mm takes 4.8 GB; no published network looks at more.
_IMAGE_BYTES: Final = 5 << 30


def resample(step: Resample, run: Run) -> Image:
    """Bring an image onto another grid.

    A voxel was measured where the nearest one of the image was.
    """
    image = run.image(step.in_)
    if step.onto.like is not None:
        order = "nearest" if step.order == "nearest" else "linear"
        return onto_grid(image, run.image(step.onto.like).grid, order, run.crew)
    if step.centres is None:
        raise TypeError("nothing says where the voxels look")
    asked = step.onto.spacing_beside(image.grid.spacing_mm)
    grid = image.grid.resampled(step.centres, shape=step.onto.shape, spacing_mm=asked)
    change = grid.change
    if not isinstance(change, Resampled):
        raise TypeError("the grid was not resampled")
    run.require_room(
        f"The image on a grid of {' x '.join(map(str, grid.shape))} voxels",
        4 * len(image.channels) * math.prod(grid.shape),
        _IMAGE_BYTES,
    )
    make = _Resampling(step, image.grid.spacing_mm, grid.shape, change, run.crew)
    return Image(grid, tuple(_resampled(one, image, make) for one in image.channels))


@dataclass(frozen=True, slots=True)
class _Resampling:
    """One step on one grid: what `interpolated` needs beside the voxels."""

    step: Resample
    spacing_mm: tuple[float, float, float]
    shape: Shape
    change: Resampled
    crew: Crew

    def interpolated(self, array: NDArray[Any]) -> F32:
        kind = "linear" if self.step.order == "linear" else "cubic"
        asked = self.step.onto.spacing_beside(self.spacing_mm)
        if self.step.across is None or asked is None:
            return interpolate(array, self.change.axes, (kind, kind, kind), self.crew)
        return resample_as_nnunet(
            array, self.shape, self.spacing_mm, asked, self.crew, kind, self.step.across
        )


def _resampled(channel: Channel, image: Image, make: _Resampling) -> Channel:
    change = make.change
    if make.step.order == "nearest":
        near = [change.nearest_old(axis) for axis in range(3)]
        if isinstance(channel, Picked):
            places = tuple(axis[index] for axis, index in zip(channel.places, near, strict=True))
            return replace(channel, places=cast(Axes, places))
        values = _values(channel, image, make.crew)
        return Held(values[np.ix_(*near)])
    if isinstance(channel, Picked):
        stored = channel.stored()
        if stored is not None and stored.dtype != np.float32:
            # Interpolating is linear: half the bytes are read, and no copy of the scan is made.
            made = make.interpolated(stored)
            channel.source.write_values(made, made)
            return Held(made)
    values = _values(channel, image, make.crew)
    unmeasured = ~np.isfinite(values)
    if not unmeasured.any():
        return Held(make.interpolated(values))
    made = make.interpolated(fill_unmeasured(values, unmeasured, make.crew))
    near = [change.nearest_old(axis) for axis in range(3)]
    made[unmeasured[np.ix_(*near)]] = np.nan
    return Held(made)


def _values(channel: Channel, image: Image, crew: Crew) -> F32:
    return Image(image.grid, (channel,)).arrays(crew)[0]

"""Step `resample`: see `models.manifest.plan.resample`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.resample import Resample
from models.runtime.crew import Crew
from models.runtime.filling import fill_unmeasured
from models.runtime.grid import Resampled
from models.runtime.images import Channel, Held, Image, Picked
from models.runtime.resample import Axes
from models.runtime.running import Run
from models.runtime.separable import resample as interpolate

__all__ = ["resample"]

F32 = NDArray[np.float32]


def resample(step: Resample, run: Run) -> Image:
    """Bring an image onto another grid.

    A voxel was measured where the nearest one of the image was.
    """
    image = run.image(step.in_)
    grid = image.grid.resampled(
        step.centres, shape=step.onto.shape, spacing_mm=step.onto.spacing_mm
    )
    change = grid.change
    if not isinstance(change, Resampled):
        raise TypeError("the grid was not resampled")
    return Image(grid, tuple(_resampled(one, image, change, step, run) for one in image.channels))


def _resampled(
    channel: Channel, image: Image, change: Resampled, step: Resample, run: Run
) -> Channel:
    if step.order == "nearest":
        near = [change.nearest_old(axis) for axis in range(3)]
        if isinstance(channel, Picked):
            places = tuple(axis[index] for axis, index in zip(channel.places, near, strict=True))
            return replace(channel, places=cast(Axes, places))
        values = _values(channel, image, run.crew)
        return Held(values[np.ix_(*near)])
    if isinstance(channel, Picked):
        stored = channel.stored()
        if stored is not None and stored.dtype != np.float32:
            # Interpolating is linear: half the bytes are read, and no copy of the scan is made.
            made = _interpolated(stored, change, step, run.crew)
            channel.source.write_values(made, made)
            return Held(made)
    values = _values(channel, image, run.crew)
    unmeasured = ~np.isfinite(values)
    if not unmeasured.any():
        return Held(_interpolated(values, change, step, run.crew))
    made = _interpolated(fill_unmeasured(values, unmeasured, run.crew), change, step, run.crew)
    near = [change.nearest_old(axis) for axis in range(3)]
    made[unmeasured[np.ix_(*near)]] = np.nan
    return Held(made)


def _values(channel: Channel, image: Image, crew: Crew) -> F32:
    return Image(image.grid, (channel,)).arrays(crew)[0]


def _interpolated(array: NDArray[Any], change: Resampled, step: Resample, crew: Crew) -> F32:
    kind = "linear" if step.order == "linear" else "cubic"
    return interpolate(array, change.axes, (kind, kind, kind), crew)

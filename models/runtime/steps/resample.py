"""Step `resample`: see `models.manifest.plan.resample`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from models.manifest.plan.resample import Resample
from models.runtime.grids import Resampled
from models.runtime.images import Channel, Image, Picked
from models.runtime.resample import Axes, nearest_exact_indices
from models.runtime.running import Run

__all__ = ["resample"]


def resample(step: Resample, run: Run) -> Image:
    """Bring an image onto another grid."""
    image = run.image(step.in_)
    grid = image.grid.resampled(
        step.centres, shape=step.onto.shape, spacing_mm=step.onto.spacing_mm
    )
    change = grid.changes[-1]
    if not isinstance(change, Resampled):
        raise TypeError("the grid was not resampled")
    return Image(grid, tuple(_resampled(one, change, step) for one in image.channels))


def _resampled(channel: Channel, change: Resampled, step: Resample) -> Channel:
    if not isinstance(channel, Picked) or step.order != "nearest" or step.centres != "half-pixel":
        raise NotImplementedError(f"{step.order} {step.centres}")
    near = [nearest_exact_indices(change.of[axis], change.to[axis]) for axis in range(3)]
    places = tuple(axis[index] for axis, index in zip(channel.places, near, strict=True))
    return replace(channel, places=cast(Axes, places))

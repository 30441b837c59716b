"""Step `pad`: see `models.manifest.plan.pad`."""

from __future__ import annotations

import numpy as np

from models.manifest.plan.pad import Pad
from models.runtime.grid import Padded
from models.runtime.images import Held, Image
from models.runtime.running import Run

__all__ = ["pad"]


def pad(step: Pad, run: Run) -> Image:
    """Put voxels of one value around an image."""
    image = run.image(step.in_)
    grid = image.grid.padded(step.padded(image.grid.shape))
    if not isinstance(grid.change, Padded):
        raise TypeError("the grid was not padded")
    made: list[Held] = []
    for channel in image.channels:
        values = np.full(grid.shape, step.value, np.float32)
        channel.write(values[grid.change.box], run.crew)
        made.append(Held(values))
    return Image(grid, tuple(made))

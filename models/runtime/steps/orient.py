"""Step `orient`: see `models.manifest.plan.orient`."""

from __future__ import annotations

from typing import cast

import numpy as np

from models.manifest.plan.orient import Orient
from models.runtime.images import Image, Picked
from models.runtime.resample import Axes
from models.runtime.running import Run

__all__ = ["orient"]


def orient(step: Orient, run: Run) -> Image:
    """Say how the source's axes lie; nothing is moved."""
    image = run.image(step.in_)
    turn = image.grid.turn_to(step.axes)
    grid = image.grid.turned(turn)
    places = cast(Axes, tuple(np.arange(side) for side in grid.shape))
    return Image(grid, (Picked(run.volumes[grid.role], turn, places),))

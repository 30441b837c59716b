"""Step `stack`: see `models.manifest.plan.stack`."""

from __future__ import annotations

from models.manifest.plan.stack import Stack
from models.runtime.images import Image
from models.runtime.running import Run

__all__ = ["stack"]


def stack(step: Stack, run: Run) -> Image:
    """Put the channels of several images behind each other; nothing is moved."""
    first = run.image(step.in_)
    others = [run.image(name) for name in step.and_]
    channels = [channel for image in (first, *others) for channel in image.channels]
    return Image(first.grid, tuple(channels))

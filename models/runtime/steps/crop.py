"""Step `crop`: see `models.manifest.plan.crop`."""

from __future__ import annotations

import numpy as np

from models.manifest.plan.crop import Crop, Margin, Nonzero, Where
from models.runtime.grid import Box, Grid
from models.runtime.images import Image
from models.runtime.intensity import is_nonzero
from models.runtime.running import NothingFound, Run
from models.runtime.segments import Segments

__all__ = ["box_around", "crop"]


def crop(step: Crop, run: Run) -> Image:
    """Cut an image to the box around what was found."""
    image = run.image(step.in_)
    around = step.around
    share = 0.0 if isinstance(around, Nonzero) else around.plane_share
    box = box_around(_found(around, run), image.grid, share, step.margin)
    if box is None and step.otherwise == "whole":
        return image.cropped(_whole(image.grid))
    if box is None:
        raise NothingFound
    return image.cropped(box)


def _found(around: Where | Nonzero, run: Run) -> Segments:
    """Return what the box is to hold; what was not measured is neither above nor nonzero."""
    above = None if isinstance(around, Nonzero) else around.above
    if isinstance(around, Where) and above is None:
        return run.segments(around.of)
    shown = run.image(around.nonzero if isinstance(around, Nonzero) else around.of)
    inside = np.zeros(shown.grid.shape, np.bool_)
    for values in shown.arrays(run.crew):
        inside |= is_nonzero(values) if above is None else values > above
    return Segments.of(shown.grid, inside.view(np.uint8))


def box_around(found: Segments, grid: Grid, plane_share: float, margin: Margin) -> Box | None:
    """Return the box, in voxels of `grid`, around what was found on a grid over the same place.

    None when nothing was, or so little that no voxel of the grid is in the box. float32 arithmetic
    and its order as in deepbet, because rounding decides single voxels.
    """
    part = found.labels
    if part is None:
        return None
    part = part if part.max() == 1 else (part != 0).view(np.uint8)
    columns = part.sum(axis=2, dtype=np.int32)
    filled = (
        columns.sum(axis=1),
        columns.sum(axis=0),
        part.sum(axis=0, dtype=np.int32).sum(axis=0),
    )
    whole = int(np.prod(found.grid.shape))
    sides: list[slice] = []
    for axis, size in enumerate(grid.shape):
        of = found.grid.shape[axis]
        places = np.flatnonzero(filled[axis] > plane_share * (whole // of))
        if len(places) == 0:
            return None
        first = found.box[axis].start + int(places[0])
        end = found.box[axis].start + int(places[-1]) + 1
        side = _grown(first, end, np.float32(size) / np.float32(of), margin, grid.spacing_mm[axis])
        side = slice(max(0, side.start), min(size, side.stop))
        if side.stop <= side.start:
            return None
        sides.append(side)
    return sides[0], sides[1], sides[2]


def _whole(grid: Grid) -> Box:
    first, second, third = (slice(0, side) for side in grid.shape)
    return first, second, third


def _grown(first: int, end: int, scale: np.float32, margin: Margin, spacing_mm: float) -> slice:
    if margin.share is not None:
        growth = np.float32(1) + np.float32(2) * np.float32(margin.share)
        centre = np.round(scale * (np.float32(end + first) / np.float32(2)))
        extent = np.round(growth * (scale * np.float32(end - first)))
        return slice(int(centre - extent / 2), int(centre + extent / 2))
    more = margin.voxels if margin.voxels is not None else int((margin.mm or 0.0) / spacing_mm)
    return slice(int(np.floor(first * scale)) - more, int(np.ceil(end * scale)) + more)

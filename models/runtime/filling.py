"""Values for voxels that were not measured, so that an interpolation stays with what was."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runtime.crew import Crew

__all__ = ["fill_unmeasured"]

F32 = NDArray[np.float32]


def fill_unmeasured(values: F32, unmeasured: NDArray[np.bool_], crew: Crew) -> F32:
    """Return [a0, a1, a2] with each unmeasured voxel as a measured one nearby; all others as is.

    The nearest one in its row along the last axis, else in its column, else in the plane nearest
    to it. Where nothing was measured at all, 0. Costs passes over planes that hold such voxels.
    """
    filled = np.array(values, np.float32)
    empty = np.zeros(len(filled), np.bool_)

    def work(first: int, end: int) -> None:
        for place in range(first, end):
            if unmeasured[place].any():
                empty[place] = not _fill_plane(filled[place], ~unmeasured[place])

    crew.share(len(filled), work)
    if empty.all():
        filled[...] = 0.0
        return filled
    for place, source in enumerate(_nearest(~empty)):
        if place != source:
            filled[place] = filled[source]
    return filled


def _fill_plane(plane: F32, known: NDArray[np.bool_]) -> bool:
    """Fill one plane [rows, columns] in place; returns whether anything in it was measured."""
    rows = known.any(axis=1)
    if not rows.any():
        return False
    plane[rows] = np.take_along_axis(plane[rows], _nearest(known[rows]), axis=1)
    plane[...] = plane[_nearest(rows)]
    return True


def _nearest(known: Any) -> NDArray[np.intp]:
    """Return the place along the last axis, known (bool), nearest to each; of two, the first."""
    length = known.shape[-1]
    places = np.broadcast_to(np.arange(length), known.shape)
    before = np.maximum.accumulate(np.where(known, places, -length), axis=-1)
    behind = np.where(known, places, 2 * length)[..., ::-1]
    after = np.minimum.accumulate(behind, axis=-1)[..., ::-1]
    return np.where(places - before <= after - places, before, after)

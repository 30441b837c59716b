"""Nearest-exact resampling as gathering: index per axis, plane by plane, never a whole copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.orientation import Turn
from models.runtime.source_volume import SourceVolume

__all__ = ["Axes", "gather", "nearest_exact_indices", "repeat_into"]

F32 = NDArray[np.float32]
Indices = NDArray[np.intp]
Axes = tuple[Indices, Indices, Indices]


def nearest_exact_indices(size_in: int, size_out: int) -> Indices:
    """Return, for each of `size_out` places, the nearest of `size_in` source places.

    The rule of PyTorch's `interpolate(mode="nearest-exact")`, in its own arithmetic: the scale
    is rounded to float32, the product is taken in float64 and rounded to float32 before floor.
    """
    scale = np.float64(np.float32(size_in) / np.float32(size_out))
    places = ((np.arange(size_out, dtype=np.float64) + 0.5) * scale).astype(np.float32)
    return np.minimum(np.floor(places).astype(np.intp), size_in - 1)


def gather(source: SourceVolume, turn: Turn, axes: Axes, crew: Crew) -> F32:
    """Pick canonical places out of a source; returns their values [x, y, z], contiguous.

    `axes` holds indices per canonical axis. One pass over what is picked, plane by plane: only
    voxels that are picked become values.
    """
    walk = _plane_walk(turn)
    by_plane = turn.apply(source.voxels).transpose(walk)
    picked = np.empty([len(index) for index in axes], np.float32)
    into = picked.transpose(walk)
    across, rows, columns = (axes[axis] for axis in walk)
    rows_of = rows if _as_slice(rows) is None else _as_slice(rows)
    columns_of = columns if _as_slice(columns) is None else _as_slice(columns)
    viewed = isinstance(rows_of, slice) and isinstance(columns_of, slice)

    def work(first: int, end: int) -> None:
        for place in range(first, end):
            # One axis after the other: picking along both at once is several times slower, and
            # `take` would first copy a plane that does not lie together.
            plane = by_plane[across[place]][rows_of][:, columns_of]
            # Where nothing was picked out, a view of the source is turned from within the cache.
            source.write_values(plane.copy() if viewed else plane, into[place])

    crew.share(len(across), work)
    return picked


def repeat_into(
    small: NDArray[Any],
    axes: Axes,
    out: NDArray[Any],
    crew: Crew,
    prepare: Callable[[NDArray[Any], NDArray[Any]], None] | None = None,
) -> None:
    """Write small[axes[0]][:, axes[1]][:, :, axes[2]] to `out`, one pass over `out`.

    Indices rise (never fall) along each axis, as nearest-neighbour indices do, so a plane that
    is picked again is copied from the one before. `prepare(plane, out)` may write other values
    for a plane of `small` before they are repeated.
    """
    planes, rows, columns = axes
    row_slice, column_slice = _as_slice(rows), _as_slice(columns)
    columns_differ = column_slice is None

    def work(first: int, end: int) -> None:
        for place in range(first, end):
            if place > first and planes[place] == planes[place - 1]:
                out[place] = out[place - 1]
                continue
            plane = small[planes[place]]
            if prepare is not None:
                # Before it is repeated along any axis: each voxel is prepared once.
                prepared = np.empty_like(plane)
                prepare(plane, prepared)
                plane = prepared
            plane = plane.take(columns, axis=1) if columns_differ else plane[:, column_slice]
            if row_slice is None:
                plane.take(rows, axis=0, out=out[place], mode="clip")
            else:
                out[place] = plane[row_slice]

    crew.share(len(planes), work)


def _plane_walk(turn: Turn) -> tuple[int, int, int]:
    """Return canonical axes: the one to go along plane by plane, a plane's rows, its columns.

    A plane always has the source's fastest axis as columns, and the result's (z) with it if
    they differ, so that turning happens inside a plane, which fits in the cache.
    """
    columns = turn.order.index(2)
    rows = turn.order.index(1) if columns == 2 else 2
    return 3 - columns - rows, rows, columns


def _as_slice(indices: Indices) -> slice | None:
    """Return indices that advance by one as a slice."""
    if len(indices) == 0 or (np.diff(indices) != 1).any():
        return None
    return slice(int(indices[0]), int(indices[-1]) + 1)

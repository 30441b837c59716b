"""Resampling of a volume: one matrix product per axis, plane by plane, in bounded memory.

Planes lie along the axis that is slowest in memory. Each is interpolated inside itself once and
kept in a short ring until no output plane needs it, so that beside the result only some planes are
held. Values must be finite: a product would spread one NaN over its whole block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.grid import Grid
from models.runtime.interpolation import (
    AxisOperator,
    Block,
    Boundary,
    Kind,
    nearest_indices,
    operator,
)
from models.runtime.placing import place
from models.runtime.sampling import AxisSampling, Shape

__all__ = ["Clip", "Kinds", "nearest_onto", "resample", "resample_onto"]

F32 = NDArray[np.float32]
Kinds = tuple[Kind, Kind, Kind]
# Whether results stay within the least and greatest value of the array, or of each of its planes
# alone, as those of scikit-image's `resize` do; a cubic would overshoot.
Clip = Literal["no", "volume", "planes"]
Samplings = tuple[AxisSampling, AxisSampling, AxisSampling]

# Planes that are interpolated inside themselves at once: enough to be worth the calls, few enough
# for the cache.
_PLANES: Final = 4
# OpenBLAS starts threads of its own above so many multiplications, and these would fight with
# the crew's: products are cut smaller than that.
_PRODUCT: Final = 1 << 18


def resample(
    array: Any,
    axes: Samplings,
    kinds: Kinds,
    crew: Crew,
    boundary: Boundary = "nearest",
    clip: Clip = "no",
    planes_along: int | None = None,
) -> Any:
    """Interpolate [a0, a1, a2] at three samplings; returns float32, laid out as `array` is.

    Args:
        array: any real type, finite; NumPy's or torch's (then all is done on its device).
        axes: one sampling per axis.
        kinds: how to interpolate along each axis.
        crew: shares the planes.
        boundary: what lies beyond the ends.
        clip: see `Clip`.
        planes_along: the axis across the planes; None takes the slowest in memory.
    """
    operators = [operator(axis, kind, boundary) for axis, kind in zip(axes, kinds, strict=True)]
    # Other weights than a cubic's are positive and add up to one: nothing overshoots.
    clip = clip if "cubic" in kinds else "no"
    walk = _walk(array, planes_along)
    back = tuple(walk.index(axis) for axis in range(3))
    along = [operators[axis] for axis in walk]
    xp = array_namespace(array)
    source = xp.permute_dims(array, walk)
    if not is_numpy_array(array):
        return xp.permute_dims(_by_whole_products(source, along, clip), back)
    out = np.empty([each.size_out for each in along], np.float32)
    low, high = _interpolate(source, along, out, crew, clip)
    if clip == "volume":
        crew.share(len(out), lambda first, end: _clip(out[first:end], low, high))
    return out.transpose(back)


def resample_onto(
    array: Any, of: Grid, onto: Grid, kinds: Kinds, crew: Crew, outside: float, clip: Clip = "no"
) -> Any:
    """Bring [a0, a1, a2] onto a grid whose axes run along the same lines; returns float32.

    Voxels of `onto` outside the array get the value `outside`.

    Raises:
        RequestError: the grids are oblique to each other; see `placing.place`.
    """
    placement = place(of, onto)
    xp = array_namespace(array)
    if placement.part is None:
        return xp.full(onto.shape, outside, dtype=xp.float32, device=device(array))
    made = resample(placement.turn.apply(array), placement.axes, kinds, crew, clip=clip)
    if placement.covers(onto):
        return made
    out = xp.full(onto.shape, outside, dtype=xp.float32, device=device(array))
    out[placement.part] = made
    return out


def nearest_onto(array: Any, of: Grid, onto: Grid, crew: Crew) -> Any:
    """Bring labels [a0, a1, a2] onto a grid, each voxel that of the nearest; outside is 0."""
    placement = place(of, onto)
    xp = array_namespace(array)
    make = xp.empty if placement.covers(onto) else xp.zeros
    out = make(onto.shape, dtype=array.dtype, device=device(array))
    if placement.part is None:
        return out
    indices = [nearest_indices(axis) for axis in placement.axes]
    _pick(placement.turn.apply(array), indices, out[placement.part], crew)
    return out


def _pick(array: Any, indices: list[NDArray[np.intp]], out: Any, crew: Crew) -> None:
    """Write array[i0][:, i1][:, :, i2] to `out`, plane by plane; planes met again are copied."""
    if not is_numpy_array(array):
        xp = array_namespace(array)
        for axis, index in enumerate(indices):
            array = xp.take(array, xp.asarray(index, device=device(array)), axis=axis)
        out[...] = array
        return
    planes, rows, columns = indices

    def work(first: int, end: int) -> None:
        for plane in range(first, end):
            if plane > first and planes[plane] == planes[plane - 1]:
                out[plane] = out[plane - 1]
            else:
                # Rows last: they are whole pieces of memory, columns are single voxels.
                out[plane] = array[planes[plane]].take(columns, axis=1).take(rows, axis=0)

    crew.share(len(planes), work)


def _walk(array: Any, planes_along: int | None) -> Shape:
    """Return the axes, the one across the planes first, then as they lie in memory."""
    strides = array.strides if is_numpy_array(array) else array.stride()
    order = sorted(range(3), key=lambda axis: -abs(strides[axis]))
    if planes_along is not None:
        order.remove(planes_along)
        order.insert(0, planes_along)
    return order[0], order[1], order[2]


def _clip(values: F32, low: float, high: float) -> None:
    np.clip(values, np.float32(low), np.float32(high), out=values)


def _interpolate(
    source: NDArray[Any], operators: list[AxisOperator], out: F32, crew: Crew, clip: Clip
) -> tuple[float, float]:
    """Write to `out`; returns the source's least and greatest value if it is to be clipped."""
    across, rows, columns = operators
    ranges: list[tuple[float, float]] = []

    def work(first: int, end: int) -> None:
        strip = _Strip(source, rows, columns, across.blocks[first:end], clip)
        ranges.append(strip.write(out))

    crew.share(len(across.blocks), work, fewest=2)
    return min(low for low, _ in ranges), max(high for _, high in ranges)


class _Strip:
    """Consecutive blocks of output planes, made by one thread with buffers of its own."""

    def __init__(
        self,
        source: NDArray[Any],
        rows: AxisOperator,
        columns: AxisOperator,
        blocks: tuple[Block, ...],
        clip: Clip,
    ) -> None:
        self._source: Final = source
        self._rows: Final = rows
        self._columns: Final = columns
        self._blocks: Final = blocks
        self._clip: Final = clip
        self._places: Final = max(block.high - block.low for block in blocks)
        # The planes inside themselves done, plane p at place p % places.
        self._ring: Final = np.zeros((self._places, rows.size_out, columns.size_out), np.float32)
        self._stored: Final = np.empty((_PLANES, rows.size_in, columns.size_in), np.float32)
        self._half: Final = np.empty((_PLANES, rows.size_out, columns.size_in), np.float32)
        self._low, self._high = np.inf, -np.inf

    def write(self, out: F32) -> tuple[float, float]:
        done = self._blocks[0].low
        for block in self._blocks:
            done = max(done, block.low)
            while done < block.high:
                done = self._fill(done, block.high)
            self._combine(block, out)
        return self._low, self._high

    def _fill(self, first: int, end: int) -> int:
        """Interpolate some planes inside themselves into the ring; returns the next plane.

        Costs one pass over the stored planes and two products.
        """
        at = first % self._places
        count = min(_PLANES, end - first, self._places - at)
        stored, half = self._stored[:count], self._half[:count]
        stored[...] = self._source[first : first + count]
        lows, highs = self._ranges(stored)
        for block in self._rows.blocks:
            np.matmul(
                block.weights,
                stored[:, block.low : block.high],
                out=half[:, block.first : block.end],
            )
        filled = self._ring[at : at + count]
        for block in self._columns.blocks:
            np.matmul(
                half[:, :, block.low : block.high],
                block.weights.T,
                out=filled[:, :, block.first : block.end],
            )
        if self._clip == "planes":
            np.clip(filled, lows, highs, out=filled)
        return first + count

    def _ranges(self, stored: F32) -> tuple[F32 | None, F32 | None]:
        """The least and greatest value of each plane, where they are asked for."""
        if self._clip == "no":
            return None, None
        lows = stored.min(axis=(1, 2), keepdims=True)
        highs = stored.max(axis=(1, 2), keepdims=True)
        self._low = min(self._low, float(lows.min()))
        self._high = max(self._high, float(highs.max()))
        return lows, highs

    def _combine(self, block: Block, out: F32) -> None:
        """Write the output planes of a block from the planes in the ring."""
        # Weights go where their planes stand in the ring; other places weigh nothing.
        weights = np.zeros((block.end - block.first, self._places), np.float32)
        weights[:, np.arange(block.low, block.high) % self._places] = block.weights
        ring = self._ring.reshape(self._places, -1)
        into = out[block.first : block.end].reshape(len(weights), -1)
        for part in _pieces(ring.shape[1], weights.size):
            np.matmul(weights, ring[:, part], out=into[:, part])


def _pieces(length: int, depth: int) -> Iterator[slice]:
    """Cut columns so that a product of `depth` multiplications each stays small."""
    step = max(_PRODUCT // depth, 1)
    return (slice(first, min(first + step, length)) for first in range(0, length, step))


def _by_whole_products(array: Any, operators: list[AxisOperator], clip: Clip) -> Any:
    """The same by dense matrices on the array's device, where multiplying costs least."""
    xp = array_namespace(array)
    where = device(array)
    across, rows, columns = (xp.asarray(each.matrix, device=where) for each in operators)
    shape = (int(array.shape[0]), int(rows.shape[0]), int(columns.shape[0]))
    inside = xp.empty(shape, dtype=xp.float32, device=where)
    for first in range(0, shape[0], _PLANES):
        planes = xp.astype(array[first : first + _PLANES], xp.float32)
        done = (rows @ planes) @ columns.T
        if clip == "planes":
            low = xp.min(planes, axis=(1, 2), keepdims=True)
            done = xp.minimum(xp.maximum(done, low), xp.max(planes, axis=(1, 2), keepdims=True))
        inside[first : first + _PLANES] = done
    out = xp.reshape(across @ xp.reshape(inside, (shape[0], -1)), (-1, *shape[1:]))
    if clip == "volume":
        out = xp.clip(out, float(xp.min(array)), float(xp.max(array)))
    return out

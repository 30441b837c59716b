"""Where a network's patches lie in a volume, by the rules of the systems that publish networks.

Starts count output tiles on the (padded) grid. A network that loses a margin reads its input patch
from `start - margin`; beyond the grid's ends the caller's padding goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device

from models.runtime.errors import RequestError
from models.runtime.sampling import Shape

__all__ = ["Fill", "Rule", "Tiling", "read_patch", "tile"]

# nnunet: steps of at most a share of the patch, spread evenly. monai: steps of a whole number of
# voxels, the last one moved back to the edge. blast: one tile beside the other, also over the end.
# centred: one beside the other, the last one moved back, by MSNet's authors' arithmetic.
Rule = Literal["nnunet", "monai", "blast", "centred"]
# What a patch sees beyond the volume: a value, or the last voxel again and again.
Fill = float | Literal["edge"]


@dataclass(frozen=True)
class Tiling:
    """Tiles that cover a volume.

    `shape`: the volume's; `before`: voxels that padding puts before it along each axis; `padded`:
    its sides with padding on both ends; `size`: a tile's sides; `margin`: voxels that the input
    patch has more on every side; `starts`: rising, per axis, on the padded grid; `along`: the long
    axis, where views of one volume must agree on it.
    """

    shape: Shape
    before: Shape
    padded: Shape
    size: Shape
    margin: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    along: int | None = None

    @cached_property
    def long_axis(self) -> int:
        """The axis along which slabs are finished: that with the smallest plane across it."""
        if self.along is not None:
            return self.along
        return max(range(3), key=lambda axis: self.padded[axis])

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return math.prod(len(each) for each in self.starts)

    def __iter__(self) -> Iterator[Shape]:
        """Go through the tiles' starts, rising along the long axis."""
        axes = [axis for axis in range(3) if axis != self.long_axis]
        for along in self.starts[self.long_axis]:
            for across in itertools.product(*(self.starts[axis] for axis in axes)):
                start = list(across)
                start.insert(self.long_axis, along)
                yield start[0], start[1], start[2]


def tile(shape: Shape, patch: Shape, step: float, rule: Rule, margin: Shape = (0, 0, 0)) -> Tiling:
    """Lay tiles over a volume.

    A volume smaller than a tile is padded on both sides, the odd voxel at the end.

    Args:
        shape: the volume's sides.
        patch: the input patch of the network; a tile is what it gives, `patch - 2 * margin`.
        step: from one tile to the next as a share of the tile; for an overlap, `1 - overlap` as it
            is computed (MONAI cuts its product with the tile to a whole number). `blast`,
            `centred`: 1.
        rule: see `Rule`.
        margin: voxels that the network loses on each side.

    Raises:
        RequestError: a tile without voxels, or a step that is none.
    """
    size = _three(side - 2 * lost for side, lost in zip(patch, margin, strict=True))
    beside = rule in ("blast", "centred")
    if min(size) < 1 or not 0 < step <= 1 or (beside and step != 1):
        raise RequestError(f"Tiles of {size} in steps of {step} cannot cover a volume by {rule}.")
    if rule == "blast":
        # Its tiles go over the end, by a whole one where they fit exactly, and are cut there.
        starts = [range(0, side + 1, length) for side, length in zip(shape, size, strict=True)]
        padded = _three(each[-1] + length for each, length in zip(starts, size, strict=True))
        return Tiling(shape, (0, 0, 0), padded, size, margin, _per_axis(starts))
    if rule == "centred":
        laid = [_centred(side, length) for side, length in zip(shape, size, strict=True)]
        starts = [axis_starts for _, axis_starts in laid]
        padded = _three(each[-1] + length for each, length in zip(starts, size, strict=True))
        before = _three(padding for padding, _ in laid)
        longest = max(range(3), key=lambda axis: shape[axis])
        return Tiling(shape, before, padded, size, margin, _per_axis(starts), longest)
    padded = _three(max(pair) for pair in zip(shape, size, strict=True))
    before = _three((wide - side) // 2 for wide, side in zip(padded, shape, strict=True))
    by_rule = _nnunet_starts if rule == "nnunet" else _monai_starts
    starts = [by_rule(side, length, step) for side, length in zip(padded, size, strict=True)]
    return Tiling(shape, before, padded, size, margin, _per_axis(starts))


def read_patch(array: Any, tiling: Tiling, start: Shape, fill: Fill) -> Any:
    """Return the input patch [..., patch] of a tile, of an array [..., a0, a1, a2] of the volume.

    A view where the patch lies inside the volume. Beyond it `fill`.
    """
    begins = [
        first - padding - lost
        for first, padding, lost in zip(start, tiling.before, tiling.margin, strict=True)
    ]
    ends = [
        begin + length + 2 * lost
        for begin, length, lost in zip(begins, tiling.size, tiling.margin, strict=True)
    ]
    if fill == "edge":
        return _read_repeating(array, begins, ends)
    inside = [
        slice(max(begin, 0), max(min(end, side), 0))
        for begin, end, side in zip(begins, ends, tiling.shape, strict=True)
    ]
    found = array[(..., *inside)]
    sides = tuple(end - begin for begin, end in zip(begins, ends, strict=True))
    if tuple(found.shape[-3:]) == sides:
        return found
    xp = array_namespace(array)
    patch = xp.full(
        (*array.shape[:-3], *sides), float(fill), dtype=array.dtype, device=device(array)
    )
    at = (
        slice(part.start - begin, part.stop - begin)
        for part, begin in zip(inside, begins, strict=True)
    )
    if all(part.stop > part.start for part in inside):
        patch[(..., *at)] = found
    return patch


def _read_repeating(array: Any, begins: list[int], ends: list[int]) -> Any:
    xp = array_namespace(array)
    first = array.ndim - 3
    for axis, (begin, end) in enumerate(zip(begins, ends, strict=True), start=first):
        side = int(array.shape[axis])
        if begin >= 0 and end <= side:
            array = array[(slice(None),) * axis + (slice(begin, end),)]
        else:
            index = np.clip(np.arange(begin, end), 0, side - 1)
            array = xp.take(array, xp.asarray(index, device=device(array)), axis=axis)
    return array


def _nnunet_starts(side: int, length: int, step: float) -> list[int]:
    """`compute_steps_for_sliding_window` of nnunetv2: even steps, rounded halves to even.

    A network of planes sees each plane once, as there.
    """
    if length == 1:
        return list(range(side))
    count = math.ceil((side - length) / (length * step)) + 1
    if count == 1:
        return [0]
    even = (side - length) / (count - 1)
    return [round(even * place) for place in range(count)]


def _monai_starts(side: int, length: int, step: float) -> list[int]:
    """`dense_patch_slices` of MONAI with the interval of its sliding window."""
    if side == length:
        return [0]
    interval = max(int(length * step), 1)
    count = math.ceil((side - length) / interval) + 1
    return [min(place * interval, side - length) for place in range(count)]


def _centred(side: int, length: int) -> tuple[int, list[int]]:
    """Return the padding before an axis, and starts; middles are halves rounded down."""
    half = length // 2
    if side <= length:
        return half - side // 2, [0]
    return 0, [min(place * length, side - 2 * half) for place in range(math.ceil(side / length))]


def _per_axis(starts: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    first, second, third = (tuple(each) for each in starts)
    return first, second, third


def _three(sides: Any) -> Shape:
    first, second, third = sides
    return first, second, third

"""Interpolation along one axis as a matrix: [size_out, size_in], the operator on an identity.

Resampling a volume is then three matrix products, exact to rounding against SciPy, scikit-image.
A row has weights only near the place it looks at (those of a cubic B-spline's prefilter fall to a
quarter with each voxel), so a matrix is kept as blocks of rows with the columns that they need.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.sampling import AxisSampling

__all__ = ["AxisOperator", "Block", "Boundary", "Kind", "nearest_indices", "operator"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Indices = NDArray[np.intp]
Kind = Literal["nearest", "linear", "cubic"]
# What lies beyond the ends: the last voxel again and again, the voxels mirrored about the last
# centre (d c b | a b c d | c b a), or about the edge (c b a | a b c d | d c b).
Boundary = Literal["nearest", "mirror", "reflect"]

# With boundary "nearest" SciPy and scikit-image filter a signal that goes on for so many voxels.
_PADDING: Final = 12
# Weights below this are left out: together less than float32 rounds off.
_NEGLIGIBLE: Final = 1e-9
# Rows of a block: with more of them the columns that a block needs outgrow the rows; with fewer the
# calls cost more than the products. Measured on planes of 512 x 512.
_ROWS: Final = 8
_OPERATORS: Final = 64


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """Rows `first` to before `end` of a matrix, whose weights lie in columns `low` to `high`.

    `weights`: float32 [end - first, high - low].
    """

    first: int
    end: int
    low: int
    high: int
    weights: F32


@dataclass(frozen=True, eq=False, slots=True)
class AxisOperator:
    """The matrix of one axis, as blocks that together hold every row in order."""

    size_in: int
    size_out: int
    blocks: tuple[Block, ...]

    @property
    def matrix(self) -> F32:
        """The whole matrix, float32 [size_out, size_in]."""
        whole = np.zeros((self.size_out, self.size_in), np.float32)
        for block in self.blocks:
            whole[block.first : block.end, block.low : block.high] = block.weights
        return whole

    @property
    def backwards(self) -> AxisOperator:
        """The operator that makes the reversed result of a reversed array."""
        turned = (
            Block(
                self.size_out - block.end,
                self.size_out - block.first,
                self.size_in - block.high,
                self.size_in - block.low,
                np.ascontiguousarray(block.weights[::-1, ::-1]),
            )
            for block in reversed(self.blocks)
        )
        return AxisOperator(self.size_in, self.size_out, tuple(turned))


@lru_cache(maxsize=_OPERATORS)
def operator(
    sampling: AxisSampling, kind: Kind, boundary: Boundary = "nearest", rows: int = _ROWS
) -> AxisOperator:
    """Return the operator that interpolates along an axis at the places of a sampling.

    Its blocks have so many rows.
    """
    if kind == "cubic" and sampling.size_in > 1 and not sampling.changes_nothing:
        matrix = _cubic(sampling, boundary)
    elif kind == "linear":
        matrix = _linear(sampling, boundary)
    else:
        matrix = _nearest(sampling)
    return AxisOperator(sampling.size_in, sampling.size_out, tuple(_blocks(matrix, rows)))


def nearest_indices(sampling: AxisSampling) -> Indices:
    """Return the input voxel nearest to each place; of two equally near, the later one."""
    return np.clip(np.floor(sampling.places + 0.5).astype(np.intp), 0, sampling.size_in - 1)


def _nearest(sampling: AxisSampling) -> F64:
    matrix = np.zeros((sampling.size_out, sampling.size_in))
    matrix[np.arange(sampling.size_out), nearest_indices(sampling)] = 1.0
    return matrix


def _linear(sampling: AxisSampling, boundary: Boundary) -> F64:
    places = sampling.places
    below = np.floor(places).astype(np.intp)
    above = places - below
    return _taps(sampling.size_in, below, [1.0 - above, above], boundary)


def _cubic(sampling: AxisSampling, boundary: Boundary) -> F64:
    """The taps of a cubic B-spline, on coefficients that the prefilter makes of the voxels."""
    size, places = sampling.size_in, sampling.places
    if boundary == "nearest":
        # As there: goes on with the last voxel, then mirrors, which by then has died off.
        padded = size + 2 * _PADDING
        repeated = np.clip(np.arange(padded) - _PADDING, 0, size - 1)
        inside = np.clip(places + _PADDING, 0, padded - 1)
        taps = _cubic_taps(padded, inside, "reflect") @ _prefilter(padded, "reflect")
        matrix = np.zeros((sampling.size_out, size))
        np.add.at(matrix.T, repeated, taps.T)
        return matrix
    return _cubic_taps(size, places, boundary) @ _prefilter(size, boundary)


def _cubic_taps(size: int, places: F64, boundary: Boundary) -> F64:
    below = np.floor(places).astype(np.intp)
    t = places - below
    u = 1.0 - t
    weights = [
        u**3 / 6.0,
        (4.0 - 6.0 * t**2 + 3.0 * t**3) / 6.0,
        (4.0 - 6.0 * u**2 + 3.0 * u**3) / 6.0,
        t**3 / 6.0,
    ]
    return _taps(size, below - 1, weights, boundary)


def _prefilter(size: int, boundary: Boundary) -> F64:
    """Invert the matrix that makes voxels of spline coefficients (1, 4, 1 over 6), [size, size].

    By elimination, all columns of the identity at once.
    """
    lower, upper = np.full(size, 1.0), np.full(size, 1.0)
    middle = np.full(size, 4.0)
    if boundary == "mirror":
        upper[0], lower[-1] = 2.0, 2.0
    else:
        middle[0], middle[-1] = 5.0, 5.0
    inverse = np.eye(size) * 6.0
    for row in range(1, size):
        share = lower[row] / middle[row - 1]
        middle[row] -= share * upper[row - 1]
        inverse[row] -= share * inverse[row - 1]
    inverse[-1] /= middle[-1]
    for row in range(size - 2, -1, -1):
        inverse[row] -= upper[row] * inverse[row + 1]
        inverse[row] /= middle[row]
    return inverse


def _taps(size: int, first: Indices, weights: list[F64], boundary: Boundary) -> F64:
    """Write weights to columns first, first + 1, ... of each row; beyond the ends fold back."""
    rows = np.arange(len(first))
    matrix = np.zeros((len(first), size))
    for step, weight in enumerate(weights):
        np.add.at(matrix, (rows, _folded(first + step, size, boundary)), weight)
    return matrix


def _folded(indices: Indices, size: int, boundary: Boundary) -> Indices:
    if boundary == "nearest" or size == 1:
        return np.clip(indices, 0, size - 1)
    period = 2 * size - 2 if boundary == "mirror" else 2 * size
    last = period if boundary == "mirror" else period - 1
    within = np.mod(indices, period)
    return np.minimum(within, last - within)


def _blocks(matrix: F64, count: int) -> list[Block]:
    blocks: list[Block] = []
    for first in range(0, len(matrix), count):
        rows = matrix[first : first + count]
        used = np.flatnonzero((np.abs(rows) > _NEGLIGIBLE).any(axis=0))
        low, high = int(used[0]), int(used[-1]) + 1
        weights = np.ascontiguousarray(rows[:, low:high], np.float32)
        blocks.append(Block(first, first + len(rows), low, high, weights))
    return blocks

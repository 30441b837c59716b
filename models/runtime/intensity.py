"""Intensity scaling: quantiles and standardisation in deepbet's arithmetic, few passes.

A voxel that is no number was not measured (pixel padding): it has no part in a quantile or a
moment, and the network sees the window's low end in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.crew import Crew

__all__ = ["Moments", "Scaling", "Window", "is_nonzero", "measured", "quantiles", "to_window"]

F32 = NDArray[np.float32]
Counts = NDArray[np.intp]
# Planes that are worked on at once: few enough for the cache, enough to be worth a call.
_SLAB: Final = 4
_SMALLEST: Final = float(np.finfo(np.float32).tiny)
# Every so manyth value tells between which values a quantile lies; a prime, so that the sample
# does not fall into step with a volume's rows.
_SAMPLE_STEP: Final = 127
# How far, in standard deviations of the sample's own rank, the bracket reaches.
_BRACKET: Final = 6.0


@dataclass(frozen=True, slots=True)
class Window:
    """The source values that map to 0 and 1."""

    low: np.float32
    high: np.float32

    @property
    def is_empty(self) -> bool:
        """Whether the image has no contrast between the two, so that nothing can be scaled."""
        return not self.high > self.low


@dataclass(frozen=True, slots=True)
class Scaling:
    """The last step of standardisation: value * gain + offset."""

    gain: np.float32
    offset: np.float32

    def write(self, values: F32, out: F32) -> None:
        """Write the scaled values to `out`, which may be `values`."""
        np.multiply(values, self.gain, out=out)
        np.add(out, self.offset, out=out)

    def write_all(self, values: F32, out: F32, crew: Crew) -> None:
        """Write [x, y, z], shared by the crew; see `write`."""
        crew.share(len(values), lambda first, end: self.write(values[first:end], out[first:end]))


@dataclass(frozen=True, slots=True)
class Moments:
    """How many measured values there are, their sum, and the sum of their squares."""

    count: float
    total: float
    squares: float

    def scaling_to(self, mean: float, std: float) -> Scaling:
        """Return what maps the values to `mean` and `std` (unbiased, as torch's)."""
        centre = self.total / max(self.count, 1.0)
        spread = max(self.squares - self.count * centre * centre, 0.0)
        gain = std / max((spread / max(self.count - 1.0, 1.0)) ** 0.5, _SMALLEST)
        return Scaling(np.float32(gain), np.float32(mean - gain * centre))


def measured(values: F32) -> F32:
    """Return the values that are numbers: `values` itself where all are, else one row of them.

    Infinities become the largest numbers.
    """
    # A sum is not finite when one of its parts is not: one pass, and no mask in the usual case.
    # That of very large values is infinite too, and the longer way then finds the same.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return values
    return np.nan_to_num(values[~np.isnan(values)], copy=False)


def is_nonzero(values: F32) -> NDArray[np.bool_]:
    """Return which values were measured and are not zero."""
    return (values != 0) & ~np.isnan(values)


def quantiles(values: F32, fractions: tuple[float, float], crew: Crew) -> Window:
    """Return two quantiles with linear interpolation, as `torch.quantile` computes them.

    The rank is float32 there, so it is here. Exact, in about three passes each. Of no values at
    all the window is empty.
    """
    flat = values.ravel()
    if not flat.size:
        return Window(np.float32(0), np.float32(0))
    sample = np.sort(flat[::_SAMPLE_STEP])
    found = np.empty(2, np.float32)

    def work(first: int, end: int) -> None:
        for place in range(first, end):
            found[place] = _quantile(flat, sample, np.float32(fractions[place]))

    crew.share(2, work, fewest=2)
    return Window(found[0], found[1])


def to_window(
    values: F32, window: Window, counts: tuple[Counts, Counts, Counts], crew: Crew
) -> Moments:
    """Clip float32 [x, y, z] in place to the window, less its low end; returns the moments.

    What was not measured becomes 0, the low end, and is not counted. `counts` says per axis how
    often each place stands in the network's input, so that the moments are the input's while only
    distinct values are touched. Sums are kept per plane in float64, so that the order of threads
    never shows. Two passes, slab by slab in the cache; a third of slabs with unmeasured voxels.
    """
    rows, columns = counts[1].astype(np.float64), counts[2].astype(np.float32)
    # Of each plane the sum, the sum of squares, and how many voxels were not measured.
    sums = np.zeros((3, len(values)))

    def work(first: int, end: int) -> None:
        scratch = np.empty((_SLAB, *values.shape[1:]), np.float32)
        for start in range(first, end, _SLAB):
            stop = min(start + _SLAB, end)
            slab, squares = values[start:stop], scratch[: stop - start]
            np.clip(slab, window.low, window.high, out=slab)
            np.subtract(slab, window.low, out=slab)
            totals = (slab @ columns) @ rows
            if np.isnan(totals).any():
                unmeasured = np.isnan(slab)
                slab[unmeasured] = 0
                totals = (slab @ columns) @ rows
                sums[2, start:stop] = (unmeasured @ columns) @ rows
            np.square(slab, out=squares)
            sums[0, start:stop] = totals
            sums[1, start:stop] = (squares @ columns) @ rows

    crew.share(len(values), work)
    total, squares, missing = (float(one) for one in sums @ counts[0].astype(np.float64))
    count = float(np.prod([float(axis.sum()) for axis in counts]))
    return Moments(count - missing, total, squares)


def _quantile(flat: F32, sample: F32, fraction: np.float32) -> np.float32:
    rank = fraction * np.float32(flat.size - 1)
    below = int(rank)
    above = min(below + 1, flat.size - 1)
    start, end = _order_statistics(flat, sample, below, above)
    weight = np.float32(rank - np.float32(below))
    return _lerp(start, end, weight)


def _lerp(start: np.float32, end: np.float32, weight: np.float32) -> np.float32:
    """Interpolate as torch does: from the nearer end, and rounded once (fused)."""
    step = np.float64(np.float32(end - start))
    if weight < np.float32(0.5):
        return np.float32(np.float64(start) + np.float64(weight) * step)
    return np.float32(np.float64(end) - np.float64(np.float32(1) - weight) * step)


def _order_statistics(
    flat: F32, sample: F32, below: int, above: int
) -> tuple[np.float32, np.float32]:
    """Return the values of two neighbouring ranks.

    The sorted sample brackets them; what lies inside the bracket is few and is ordered. Where
    the bracket misses (it may, a sample being a sample), everything is partitioned.
    """
    share = below / max(flat.size - 1, 1)
    reach = _BRACKET * (len(sample) * share * (1.0 - share)) ** 0.5 + 2.0
    place = share * (len(sample) - 1)
    first, last = int(place - reach), int(place + reach) + 1
    low = sample[first] if first >= 0 else flat.min()
    high = sample[last] if last < len(sample) else flat.max()
    less = int(np.count_nonzero(flat < low))
    inside = np.compress((flat >= low) & (flat <= high), flat)
    if less <= below and above < less + len(inside):
        ordered = np.partition(inside, (below - less, above - less))
        return ordered[below - less], ordered[above - less]
    ordered = np.partition(flat, (below, above))
    return ordered[below], ordered[above]

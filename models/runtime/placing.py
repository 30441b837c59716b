"""How an array of one grid comes onto another grid of the same patient, by coordinates alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.runtime.errors import RequestError
from models.runtime.grid import SAME_PLACE_MM, Grid, Moved, Oriented, Resampled
from models.runtime.orientation import Turn
from models.runtime.sampling import AxisSampling, Centres, between_sizes

__all__ = ["Placement", "place"]

# Affines are multiplied and inverted in double precision: what should be a whole number of voxels
# is one to better than this. A tie between two voxels must fall as the convention has it.
_WHOLE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Placement:
    """How an array of one grid comes onto another: turn it, sample it, write the result to `part`.

    Voxels of the other grid outside `part` lie outside the first one. `part` is None where the
    two share no place.
    """

    turn: Turn
    axes: tuple[AxisSampling, AxisSampling, AxisSampling]
    part: tuple[slice, slice, slice] | None

    def covers(self, onto: Grid) -> bool:
        """Whether no voxel of the other grid lies outside."""
        return self.part == tuple(slice(0, side) for side in onto.shape)


def place(of: Grid, onto: Grid) -> Placement:
    """Find how arrays of one grid come onto another one whose axes run along the same lines.

    Where the two are related by a convention (perhaps with a crop), its own formula is used. What
    lies outside a grid that `of` was made from was never seen, and is no part of it: a coarse
    voxel at the end of a crop reaches beyond the crop.

    Raises:
        RequestError: the grids are oblique to each other: those need a registration's resampling,
            which goes along no axis.
    """
    turn = _turn_between(of, onto)
    turned = of.turned(turn)
    scales, shifts = _lines(turned, onto)
    placed = [
        _placed(size_in, size_out, scale, shift, limit, made_by)
        for size_in, size_out, scale, shift, limit, made_by in zip(
            turned.shape, onto.shape, scales, shifts, _seen(of, onto), _made_by(turned), strict=True
        )
    ]
    axes = (placed[0][0], placed[1][0], placed[2][0])
    parts = (placed[0][1], placed[1][1], placed[2][1])
    empty = any(part.stop <= part.start for part in parts)
    return Placement(turn, axes, None if empty else parts)


def _turn_between(of: Grid, onto: Grid) -> Turn:
    """The turn after which axes of `of` run along those of `onto`, in the same direction."""
    directions = np.linalg.solve(of.affine_lps[:3, :3], onto.affine_lps[:3, :3])
    order = np.abs(directions * np.array(of.spacing_mm)[:, None]).argmax(axis=0).tolist()
    if sorted(order) != [0, 1, 2]:
        raise RequestError("Two grids are oblique to each other: register one to the other first.")
    flipped = [bool(directions[source, axis] < 0) for axis, source in enumerate(order)]
    return Turn((order[0], order[1], order[2]), (flipped[0], flipped[1], flipped[2]))


def _lines(of: Grid, onto: Grid) -> tuple[list[float], list[float]]:
    """Per axis, the index in `of` of index o in `onto`, as o * scale + shift."""
    relative = np.linalg.solve(of.affine_lps, onto.affine_lps)
    scales = np.diag(relative)[:3]
    across = relative[:3, :3] - np.diag(scales)
    drift_mm = np.abs(across) @ np.array(onto.shape) * np.array(of.spacing_mm)
    if (drift_mm > SAME_PLACE_MM).any():
        raise RequestError(
            f"Two grids are oblique to each other: their axes part by {drift_mm.max():.3g} mm. "
            "Register one to the other first."
        )
    return scales.tolist(), relative[:3, 3].tolist()


def _seen(of: Grid, onto: Grid) -> list[slice]:
    """Per axis of `onto`, the voxels that lie inside all grids that `of` was made from."""
    seen = [slice(0, side) for side in onto.shape]
    while of.before is not None and not isinstance(of.change, Moved):
        of = of.before
        turned = of.turned(_turn_between(of, onto))
        for axis, (scale, shift) in enumerate(zip(*_lines(turned, onto), strict=True)):
            inside = _inside(turned.shape[axis], onto.shape[axis], scale, shift)
            seen[axis] = _both(seen[axis], inside)
    return seen


def _made_by(grid: Grid) -> tuple[Centres | None, Centres | None, Centres | None]:
    """Per axis, the convention by which a grid's voxels were put over another one's."""
    change, before = grid.change, grid.before
    if isinstance(change, Resampled):
        first, second, third = change.axes
        return first.centres, second.centres, third.centres
    if before is None or not isinstance(change, Oriented | Moved):
        return None, None, None
    made_by = _made_by(before)
    if isinstance(change, Moved):
        return made_by
    first, second, third = change.turn.order
    return made_by[first], made_by[second], made_by[third]


def _inside(size_in: int, size_out: int, scale: float, shift: float) -> slice:
    """Return the voxels of an axis whose centres lie inside a voxel of the other one."""
    first = max(int(np.ceil((-0.5 - shift) / scale - _WHOLE)), 0)
    end = min(int(np.floor((size_in - 0.5 - shift) / scale + _WHOLE)) + 1, size_out)
    return slice(first, max(end, first))


def _both(one: slice, other: slice) -> slice:
    first = max(one.start, other.start)
    return slice(first, max(min(one.stop, other.stop), first))


def _placed(
    size_in: int,
    size_out: int,
    scale: float,
    shift: float,
    limit: slice,
    made_by: Centres | None,
) -> tuple[AxisSampling, slice]:
    """Return a sampling of one axis and the part of the output axis that it is for.

    One place may be both conventions' by chance, over parts of different length: that one is meant
    by which the grid was made.
    """
    conventions: tuple[Centres, ...] = ("half-pixel", "aligned")
    if made_by == "aligned":
        conventions = ("aligned", "half-pixel")
    elif made_by == "spacing":
        conventions = ()
    for centres in conventions:
        found = _by_convention(size_in, size_out, scale, shift, centres)
        if found is not None and _both(found[1], limit) == found[1]:
            return found
    part = _both(_inside(size_in, size_out, scale, shift), limit)
    count = part.stop - part.start
    return AxisSampling(size_in, count, "spacing", scale, shift + part.start * scale), part


def _by_convention(
    size_in: int, size_out: int, scale: float, shift: float, centres: Centres
) -> tuple[AxisSampling, slice] | None:
    """Return the sampling by sizes that these places are, if they are one over a part of `onto`."""
    span = size_in / scale if centres == "half-pixel" else (size_in - 1) / scale + 1
    size = round(span)
    if size < 1:
        return None
    sampling = between_sizes(size_in, size, centres)
    own_scale, own_shift = sampling.line
    first = round((own_shift - shift) / scale)
    # The first and the last voxel must look at the same place by either.
    starts = abs(first * scale + shift - own_shift)
    ends = abs((first + size - 1) * scale + shift - ((size - 1) * own_scale + own_shift))
    if max(starts, ends) > _WHOLE or first < 0 or first + size > size_out:
        return None
    return sampling, slice(first, first + size)

"""Where along each axis a resampled array looks into the array it is made of.

Three conventions are in use. `half-pixel`: both arrays have the same outer edges (scikit-image,
torch with align_corners=False, nnU-Net). `aligned`: both have the same first and last centres
(`scipy.ndimage.zoom`, TotalSegmentator). `spacing`: by distance from given places (SimpleITK,
MONAI).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import RequestError
from models.runtime.grid import SAME_PLACE_MM, Grid, Shape, Turn

__all__ = ["AxisSampling", "Centres", "Placement", "place", "resampled_grid", "samplings"]

Centres = Literal["half-pixel", "aligned", "spacing"]

# Affines are multiplied and inverted in double precision: what should be a whole number of voxels
# is one to better than this. A tie between two voxels must fall as the convention has it.
_WHOLE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class AxisSampling:
    """One axis: `size_out` voxels look at places among `size_in` ones.

    Voxel o looks at (o + 0.5) * scale - 0.5 with half-pixel centres, else at o * scale + shift.
    Each form is computed as the libraries of its convention do, so that ties fall as there.
    """

    size_in: int
    size_out: int
    centres: Centres
    scale: float
    shift: float = 0.0

    @property
    def places(self) -> NDArray[np.float64]:
        """The index, with its fraction, where each output voxel looks."""
        out = np.arange(self.size_out, dtype=np.float64)
        if self.centres == "half-pixel":
            return (out + 0.5) * self.scale - 0.5
        return out * self.scale + self.shift

    @property
    def changes_nothing(self) -> bool:
        """Whether each output voxel looks at the input voxel of its own index."""
        return self.size_in == self.size_out and self.scale == 1.0 and self.shift == 0.0

    @property
    def line(self) -> tuple[float, float]:
        """Scale and shift of the same places written as o * scale + shift."""
        if self.centres == "half-pixel":
            return self.scale, 0.5 * self.scale - 0.5
        return self.scale, self.shift


@dataclass(frozen=True, slots=True)
class Placement:
    """How an array of one grid comes onto another: turn it, sample it, write the result to `part`.

    Voxels of the other grid outside `part` lie outside the first one. `part` is None where the
    two share no place.
    """

    turn: Turn
    axes: tuple[AxisSampling, AxisSampling, AxisSampling]
    part: tuple[slice, slice, slice] | None


def samplings(
    shape: Shape, shape_out: Shape, centres: Literal["half-pixel", "aligned"]
) -> tuple[AxisSampling, AxisSampling, AxisSampling]:
    """Return the samplings of a whole array onto a shape.

    An axis of one voxel has no two centres to align: it is sampled with half-pixel centres.
    """
    first, second, third = (
        _between_sizes(size, size_out, centres)
        for size, size_out in zip(shape, shape_out, strict=True)
    )
    return first, second, third


def resampled_grid(grid: Grid, spacing_mm: tuple[float, float, float], centres: Centres) -> Grid:
    """Return the grid of about this spacing over the same volume.

    Its shape is round(shape * spacing / spacing_mm), halves to even, as nnU-Net, TotalSegmentator
    and SciPy have it. With `half-pixel` and `aligned` centres the spacing follows from the shapes;
    with `spacing` it is as asked, and the first voxel stays.
    """
    ratios = [own / asked for own, asked in zip(grid.spacing_mm, spacing_mm, strict=True)]
    shape = [max(round(side * ratio), 1) for side, ratio in zip(grid.shape, ratios, strict=True)]
    affine = np.array(grid.affine_lps)
    for axis, ratio in enumerate(ratios):
        if centres == "spacing":
            scale, shift = 1.0 / ratio, 0.0
        else:
            scale, shift = _between_sizes(grid.shape[axis], shape[axis], centres).line
        affine[:, 3] += grid.affine_lps[:, axis] * shift
        affine[:, axis] = grid.affine_lps[:, axis] * scale
    return Grid((shape[0], shape[1], shape[2]), affine)


def place(of: Grid, onto: Grid) -> Placement:
    """Find how arrays of one grid come onto another one whose axes run along the same lines.

    Where the two are related by a convention (perhaps with a crop), its own formula is used.
    Raises RequestError for grids that are oblique to each other: those need a registration's
    resampling, which goes along no axis.
    """
    turn = _turn_between(of, onto)
    turned = of.turned(turn)
    scales, shifts = _lines(turned, onto)
    placed = [
        _placed(size_in, size_out, scale, shift)
        for size_in, size_out, scale, shift in zip(
            turned.shape, onto.shape, scales, shifts, strict=True
        )
    ]
    axes = (placed[0][0], placed[1][0], placed[2][0])
    parts = (placed[0][1], placed[1][1], placed[2][1])
    empty = any(part.stop <= part.start for part in parts)
    return Placement(turn, axes, None if empty else parts)


def _between_sizes(size_in: int, size_out: int, centres: Centres) -> AxisSampling:
    if centres == "aligned" and size_in > 1 and size_out > 1:
        return AxisSampling(size_in, size_out, "aligned", (size_in - 1) / (size_out - 1))
    return AxisSampling(size_in, size_out, "half-pixel", size_in / size_out)


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


def _placed(size_in: int, size_out: int, scale: float, shift: float) -> tuple[AxisSampling, slice]:
    """Return a sampling of one axis and the part of the output axis that it is for."""
    for centres in ("half-pixel", "aligned"):
        found = _by_convention(size_in, size_out, scale, shift, centres)
        if found is not None:
            return found
    # The voxels of `onto` whose centres lie inside a voxel of `of`.
    first = max(int(np.ceil((-0.5 - shift) / scale - _WHOLE)), 0)
    end = min(int(np.floor((size_in - 0.5 - shift) / scale + _WHOLE)) + 1, size_out)
    part = AxisSampling(size_in, max(end - first, 0), "spacing", scale, shift + first * scale)
    return part, slice(first, end)


def _by_convention(
    size_in: int, size_out: int, scale: float, shift: float, centres: Centres
) -> tuple[AxisSampling, slice] | None:
    """Return the sampling by sizes that these places are, if they are one over a part of `onto`."""
    span = size_in / scale if centres == "half-pixel" else (size_in - 1) / scale + 1
    size = round(span)
    if size < 1:
        return None
    sampling = _between_sizes(size_in, size, centres)
    own_scale, own_shift = sampling.line
    first = round((own_shift - shift) / scale)
    # The first and the last voxel must look at the same place by either.
    starts = abs(first * scale + shift - own_shift)
    ends = abs((first + size - 1) * scale + shift - ((size - 1) * own_scale + own_shift))
    if max(starts, ends) > _WHOLE or first < 0 or first + size > size_out:
        return None
    return sampling, slice(first, first + size)

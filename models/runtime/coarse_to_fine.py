"""The two-stage scheme: a coarse network finds the box, a fine network segments it.

Written after deepbet 1.0.2's `BrainExtraction.run_model` (MIT), whose networks it must serve in
the same arithmetic. What differs is how much memory is touched: source voxels are gathered
straight to where the networks want them, and only distinct values are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.runtime.compiled import BoxRule, CoarseToFine, Scale
from models.runtime.components import foreground_box, keep_largest_component
from models.runtime.crew import Crew
from models.runtime.intensity import Window, measured, quantiles, to_window
from models.runtime.networks import Network
from models.runtime.orientation import Orientation
from models.runtime.record import PipelineRefusal, Stopwatch
from models.runtime.resample import Axes, gather, nearest_exact_indices, repeat_into
from models.runtime.source_volume import SourceVolume

__all__ = ["Box", "Segmented", "box_around", "segment_coarse_to_fine"]

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]
_COARSE_CONNECTIVITY = 26


@dataclass(frozen=True, slots=True)
class Segmented:
    """A 0/1 mask uint8 [x, y, z] on the source's grid (canonical axes) inside `box`.

    No foreground lies outside the box.
    """

    mask: U8
    box: Box


def segment_coarse_to_fine(
    source: SourceVolume,
    orientation: Orientation,
    scheme: CoarseToFine,
    networks: Mapping[str, Network],
    crew: Crew,
    watch: Stopwatch,
) -> Segmented | PipelineRefusal | None:
    """Segment one volume.

    None when a network sees nothing; a refusal when the image has no contrast to scale.
    """
    shape = cast(Shape, tuple(source.shape[axis] for axis in orientation.source_axis))
    coarse, fine = networks[scheme.coarse], networks[scheme.fine]
    with watch.stage("coarse-input"):
        window = _coarse_input(source, orientation, shape, coarse, scheme.scale, crew)
    if window.is_empty:
        return PipelineRefusal(
            "blank_image", {"low": f"{window.low:g}", "high": f"{window.high:g}"}
        )
    with watch.network(coarse.name, coarse.target, coarse.precision):
        seen = coarse.foreground()
    with watch.stage("box"):
        box = box_around(seen, shape, scheme.box)
    if box is None:
        return None
    with watch.stage("fine-input"):
        _fine_input(source, orientation, box, fine, window, scheme.scale, crew)
    with watch.network(fine.name, fine.target, fine.precision):
        found = fine.foreground()
    with watch.stage("back-to-source-grid"):
        return _on_source_grid(found, box, crew)


def box_around(seen: U8, shape: Shape, rule: BoxRule) -> Box | None:
    """Return the box, in canonical voxels of a grid of `shape`, around what was seen.

    None when nothing was, or so little that no voxel of the grid is in the box.
    `seen`: 0/1 uint8 [x, y, z] on the coarse grid; changed (largest component kept). float32
    arithmetic and its order as in deepbet, because rounding decides single voxels.
    """
    tight = foreground_box(seen)
    if tight is None:
        return None
    part = np.ascontiguousarray(seen[tight])
    keep_largest_component(part, _COARSE_CONNECTIVITY)
    columns = part.sum(axis=2, dtype=np.int32)
    filled = (
        columns.sum(axis=1),
        columns.sum(axis=0),
        part.sum(axis=0, dtype=np.int32).sum(axis=0),
    )
    sides: list[slice] = []
    for axis, size in enumerate(shape):
        grid = seen.shape[axis]
        places = np.flatnonzero(filled[axis] > rule.plane_mean * (seen.size // grid))
        if len(places) == 0:
            return None
        first = tight[axis].start + int(places[0])
        end = tight[axis].start + int(places[-1]) + 1
        scale = np.float32(size) / np.float32(grid)
        growth = np.float32(1) + np.float32(2) * np.float32(rule.margin)
        centre = np.round(scale * (np.float32(end + first) / np.float32(2)))
        extent = np.round(growth * (scale * np.float32(end - first)))
        low, high = int(centre - extent / 2), int(centre + extent / 2)
        side = slice(max(0, low), min(size, high))
        if side.stop <= side.start:
            return None
        sides.append(side)
    return sides[0], sides[1], sides[2]


def _coarse_input(
    source: SourceVolume,
    orientation: Orientation,
    shape: Shape,
    network: Network,
    scale: Scale,
    crew: Crew,
) -> Window:
    """Write the whole volume onto the coarse network's grid, scaled; returns the window."""
    small = gather(source, orientation, _spread(shape, network.shape), crew)
    window = quantiles(measured(small), (scale.low, scale.high), crew)
    if not window.is_empty:
        once = cast(Axes, tuple(np.ones(size, np.intp) for size in network.shape))
        moments = to_window(small, window, once, crew)
        moments.scaling_to(scale.mean, scale.std).write_all(small, network.image(), crew)
    return window


def _fine_input(
    source: SourceVolume,
    orientation: Orientation,
    box: Box,
    network: Network,
    window: Window,
    scale: Scale,
    crew: Crew,
) -> None:
    """Write the box onto the fine network's grid, scaled.

    Only the distinct voxels are gathered and scaled; then each is written as often as the grid
    holds it.
    """
    sizes = cast(Shape, tuple(side.stop - side.start for side in box))
    distinct = [
        np.unique(axis, return_inverse=True, return_counts=True)
        for axis in _spread(sizes, network.shape)
    ]
    places = cast(
        Axes, tuple(unique[0] + side.start for unique, side in zip(distinct, box, strict=True))
    )
    picked = gather(source, orientation, places, crew)
    counts = cast(Axes, tuple(unique[2] for unique in distinct))
    moments = to_window(picked, window, counts, crew)
    scaling = moments.scaling_to(scale.mean, scale.std)
    inverse = cast(Axes, tuple(unique[1] for unique in distinct))
    repeat_into(picked, inverse, network.image(), crew, scaling.write)


def _on_source_grid(found: U8, box: Box, crew: Crew) -> Segmented | None:
    """Bring the fine network's mask back to the voxels of the box, where there is any."""
    tight = foreground_box(found)
    if tight is None:
        return None
    axes: list[NDArray[np.intp]] = []
    sides: list[slice] = []
    for axis, side in enumerate(box):
        index = nearest_exact_indices(found.shape[axis], side.stop - side.start)
        # Indices rise, so that the voxels that look into the foreground are neighbours.
        first = int(np.searchsorted(index, tight[axis].start))
        end = int(np.searchsorted(index, tight[axis].stop))
        if end <= first:
            return None
        axes.append(index[first:end])
        sides.append(slice(side.start + first, side.start + end))
    mask = np.empty([len(index) for index in axes], np.uint8)
    repeat_into(found, (axes[0], axes[1], axes[2]), mask, crew)
    return Segmented(mask, (sides[0], sides[1], sides[2]))


def _spread(sizes: Shape, onto: Shape) -> Axes:
    """Return nearest-exact indices per axis, from a grid of `sizes` onto one of `onto`."""
    x, y, z = (
        nearest_exact_indices(size, target) for size, target in zip(sizes, onto, strict=True)
    )
    return x, y, z

"""Step `clean`: see `models.manifest.plan.clean`."""

from __future__ import annotations

import cc3d
import numpy as np
from numpy.typing import NDArray

from models.manifest.plan.clean import Clean, Close, Drop, FillHoles, LargestComponent, RemoveSmall
from models.runtime.components import close_gaps, fill_holes, keep_largest_component
from models.runtime.running import Run
from models.runtime.segments import Segments

__all__ = ["clean"]

U8 = NDArray[np.uint8]


def clean(step: Clean, run: Run) -> Segments:
    """Apply an operation to one segment.

    Outside the box of what was found there is no foreground, so nothing there can join components
    or enclose a hole.
    """
    if step.in_ in run.apart:
        members = run.members[step.in_]
        run.members[step.out] = members.changed(lambda one: _cleaned(one, step, copied=True))
    copied = step.in_ in run.read_later
    return _cleaned(run.segments(step.in_), step, copied=copied)


def _cleaned(found: Segments, step: Clean, *, copied: bool) -> Segments:
    """Return segments after the operation; those that were given stay whole where `copied`."""
    if found.labels is None:
        return found
    alone = step.segment == 1 and not (found.labels > 1).any()
    labels = np.ascontiguousarray(found.labels)
    if labels is found.labels and copied:
        labels = labels.copy()
    mask = labels if alone else (labels == step.segment).view(np.uint8)
    before = None if alone else mask.copy()
    _apply(mask, step, found)
    if before is not None:
        labels[(before != 0) & (mask == 0)] = 0
        labels[(mask != 0) & (labels == 0)] = step.segment
    return Segments(found.grid, labels, found.box)


def _apply(mask: U8, step: Clean, found: Segments) -> None:
    by = step.by
    if isinstance(by, LargestComponent):
        keep_largest_component(mask, by.connectivity, by.second_above)
    elif isinstance(by, FillHoles):
        fill_holes(mask)
    elif isinstance(by, Close):
        close_gaps(mask, by.connectivity)
    elif isinstance(by, Drop):
        if np.count_nonzero(mask) * float(np.prod(found.grid.spacing_mm)) < by.below_ml * 1000.0:
            mask[...] = 0
    else:
        _remove_small(mask, by, float(np.prod(found.grid.spacing_mm)))


def _remove_small(mask: U8, by: RemoveSmall, voxel_mm3: float) -> None:
    components, count = cc3d.connected_components(
        mask, connectivity=by.connectivity, return_N=True, binary_image=True
    )
    if by.alone_stays and count == 1:
        return
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    stays = sizes * voxel_mm3 >= by.below_ml * 1000.0
    stays[0] = False
    mask[...] = stays[components]

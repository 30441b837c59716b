"""Where segments of several members meet: in any, in each, component by component."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cc3d
import numpy as np
from numpy.typing import NDArray

__all__ = ["any_of", "each_of", "overlapping"]

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def any_of(members: Sequence[U8]) -> Mask:
    """Return where any of the members [a0, a1, a2] holds a segment."""
    found = members[0] != 0
    for member in members[1:]:
        found |= member != 0
    return found


def each_of(members: Sequence[U8]) -> Mask:
    """Return where each of the members [a0, a1, a2] holds a segment."""
    found = members[0] != 0
    for member in members[1:]:
        found &= member != 0
    return found


def overlapping(labels: U8, there: Mask, connectivity: Literal[6, 18, 26], share: float) -> U8:
    """Return the components of all that is labelled of which at least a share lies `there`."""
    components, count = cc3d.connected_components(
        labels != 0, connectivity=connectivity, return_N=True, binary_image=True
    )
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    inside = np.bincount(components[there], minlength=count + 1)
    stays = inside >= share * sizes
    stays[0] = False
    return labels * stays[components].view(np.uint8)

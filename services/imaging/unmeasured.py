"""Which segments reach what was not measured: the edge of a field of view within the matrix.

Images of a round field of view are squares all the same; what lies outside it is padding
(PS3.3 C.7.5.1.1.2). A structure that reaches it may go on beyond, as one at the matrix' own edge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from services.imaging.errors import ImagingError

# So deep must padding be beyond a voxel. Within a body single voxels may have the value of the
# padding by chance; a field of view has not such an edge.
_DEPTH = 2


def segments_at_unmeasured(
    labels: NDArray[np.uint8], padding: NDArray[np.bool_] | None
) -> tuple[int, ...]:
    """The numbers of segments with a voxel beside padding, or in it; ascending.

    Costs some passes over the box that holds all segments, and nothing where nothing is padding.

    Args:
        labels: uint8 [k, j, i], segment numbers; 0 is background.
        padding: bool [k, j, i] on the same grid; None where everything was measured.

    Raises:
        ImagingError: labels and padding are not on one grid.
    """
    if padding is None:
        return ()
    if labels.shape != padding.shape:
        raise ImagingError(f"Labels of {labels.shape} and padding of {padding.shape} do not match.")
    box = _box(labels != 0)
    if box is None:
        return ()
    # Beyond the matrix nothing was measured either.
    around = np.pad(padding, _DEPTH, constant_values=True)
    inside = labels[box]
    found = np.zeros(256, np.bool_)
    for axis in range(3):
        for way in (-1, 1):
            beyond = np.ones(inside.shape, np.bool_)
            for step in range(1, _DEPTH + 1):
                beyond &= around[_moved(box, axis, way * step)]
            # One step beyond the matrix is the matrix' own edge, which is told as such.
            _leave_out_the_edge(beyond, box, labels.shape, axis, way)
            found[inside[beyond]] = True
    return tuple(int(number) for number in np.flatnonzero(found) if number)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, slice, slice] | None:
    """The smallest box that holds all of a mask; None for an empty one."""
    sides: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        if not places.size:
            return None
        sides.append(slice(int(places[0]), int(places[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _moved(box: tuple[slice, ...], axis: int, by: int) -> tuple[slice, ...]:
    """A box in the padded matrix, moved along an axis."""
    return tuple(
        slice(
            side.start + _DEPTH + (by if n == axis else 0),
            side.stop + _DEPTH + (by if n == axis else 0),
        )
        for n, side in enumerate(box)
    )


def _leave_out_the_edge(
    beyond: NDArray[np.bool_],
    box: tuple[slice, ...],
    shape: tuple[int, ...],
    axis: int,
    way: int,
) -> None:
    at_edge = box[axis].start == 0 if way < 0 else box[axis].stop == shape[axis]
    if at_edge:
        place: list[slice | int] = [slice(None)] * 3
        place[axis] = 0 if way < 0 else -1
        beyond[tuple(place)] = False

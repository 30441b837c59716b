"""The outline of a segment in its key slice, for viewers that show a 2D region only."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

Corner = tuple[int, int]

# The four sides of pixel (j, i) as steps between its corners (row, column), walked with the pixel
# on the right, and the neighbour that lies on the other side.
_SIDES = (
    ((0, 0), (0, 1), (-1, 0)),  # top, to the right
    ((0, 1), (1, 1), (0, 1)),  # right, down
    ((1, 1), (1, 0), (1, 0)),  # bottom, to the left
    ((1, 0), (0, 0), (0, -1)),  # left, up
)


def key_slice(voxels: npt.NDArray[np.int64]) -> int:
    """The slice that shows most of a segment.

    Args:
        voxels: int64 [k], the segment's voxels in each slice.
    """
    return int(voxels.argmax())


def outline(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The outer outline of the largest part of `mask`, along the sides of its pixels.

    Args:
        mask: bool [j, i] with at least one pixel.

    Returns:
        float64 [n, 2], (column, row) in the image's coordinates, whose origin is the outer corner
        of the first pixel (PS3.3 C.18.6.1.1); closed, the last point is the first.
    """
    loops = _loops(_sides(mask))
    largest = max(loops, key=_area)
    corners = np.array(_without_straight(largest), np.float64)
    return np.concatenate([corners, corners[:1]])[:, ::-1]


def _sides(mask: npt.NDArray[np.bool_]) -> dict[Corner, list[Corner]]:
    """The sides between a pixel of `mask` and one outside it: corner -> next corners."""
    rows, columns = mask.shape
    padded = np.pad(mask, 1)
    following: dict[Corner, list[Corner]] = defaultdict(list)
    for begin, end, (down, right) in _SIDES:
        neighbour = padded[1 + down : 1 + down + rows, 1 + right : 1 + right + columns]
        for j, i in np.argwhere(mask & ~neighbour).tolist():
            following[j + begin[0], i + begin[1]].append((j + end[0], i + end[1]))
    return following


def _loops(following: dict[Corner, list[Corner]]) -> list[list[Corner]]:
    """Joins sides to closed walks; where two parts touch at a corner they stay two parts."""
    loops: list[list[Corner]] = []
    while following:
        start = next(iter(following))
        loop = [start]
        here, came = start, None
        while True:
            there = _pop_side(following, here, came)
            came = (there[0] - here[0], there[1] - here[1])
            if there == start and start not in following:
                break
            here = there
            loop.append(here)
        loops.append(loop)
    return loops


def _pop_side(following: dict[Corner, list[Corner]], here: Corner, came: Corner | None) -> Corner:
    """Removes and returns the next side from `here`; at a crossing the one that turns right."""
    options = following[here]
    if came is not None and len(options) > 1:
        right = (here[0] + came[1], here[1] - came[0])
        chosen = right if right in options else options[0]
    else:
        chosen = options[0]
    options.remove(chosen)
    if not options:
        del following[here]
    return chosen


def _area(loop: list[Corner]) -> float:
    """Twice the enclosed area: positive for outer outlines, negative for holes."""
    corners = np.array(loop, np.float64)
    rows, columns = corners[:, 0], corners[:, 1]
    return float((columns * np.roll(rows, -1) - np.roll(columns, -1) * rows).sum())


def _without_straight(loop: list[Corner]) -> list[Corner]:
    """Leaves out the corners at which the walk goes straight on."""
    kept: list[Corner] = []
    for before, here, after in zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True):
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1]):
            kept.append(here)
    return kept

"""The bits of a BINARY segmentation's frames, and how many frames make whole pairs of bytes.

One bit per voxel, the first voxel in the lowest bit, frames not aligned to bytes (PS3.5 8.1.1). A
value has an even length (PS3.5 7.1); where the packed bits have not, a pad byte follows, and some
readers refuse the object for it or misread it. A plane without any voxel is as true a frame as any
other: one more of them, or a few, and no pad byte is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# A frame of a segment: its number in the object, and its slice.
Frame = tuple[int, int]

# The lengths of more and more frames are even and odd by turns that repeat after so many.
_PERIOD = 16


def packed(labels: npt.NDArray[np.uint8], frames: list[tuple[int, int]]) -> bytes:
    """Packs frames, given as (number in the labels, slice), eight at a time.

    Eight frames are whole bytes whatever their size, and few enough not to need the memory of
    all frames at one byte a voxel.
    """
    chunks = [
        np.packbits(
            np.stack([labels[k] == number for number, k in frames[start : start + 8]]),
            axis=None,
            bitorder="little",
        ).tobytes()
        for start in range(0, len(frames), 8)
    ]
    data = b"".join(chunks)
    return data + b"\0" * (len(data) % 2)


def needs_pad(frames: int, voxels: int) -> bool:
    """Whether so many frames of so many voxels each have an odd number of bytes."""
    return (frames * voxels + 7) // 8 % 2 == 1


def further_frames(present: Sequence[Frame], slices: int, voxels: int) -> list[Frame]:
    """Frames without voxels to write too, as few as are needed to have no pad byte.

    The frames lie beside the ends of the segments: a reader sees a structure with an empty border.
    Where there are not enough planes without voxels no frame is added, and the pad byte stays: a
    segment that fills every plane, or a form that has the empty frames already.

    Args:
        present: the frames that hold voxels, or all that are written anyway.
        slices: how many planes the source has.
        voxels: of a frame.
    """
    wanted = next(
        (more for more in range(_PERIOD) if not needs_pad(len(present) + more, voxels)), 0
    )
    if not wanted:
        return []
    missing = sorted(_beside(present, slices))[:wanted]
    return [frame for _, frame in missing] if len(missing) == wanted else []


def _beside(present: Sequence[Frame], slices: int) -> list[tuple[int, Frame]]:
    """The frames that are not there, with their distance from those of the same segment."""
    found: list[tuple[int, Frame]] = []
    for place in sorted({place for place, _ in present}):
        there = np.array(sorted(k for number, k in present if number == place))
        others = np.setdiff1d(np.arange(slices), there)
        if others.size:
            distance = np.abs(others[:, None] - there[None, [0, -1]]).min(axis=1)
            nearest = np.argsort(distance, kind="stable")[:_PERIOD]
            found += [(int(distance[n]), (place, int(others[n]))) for n in nearest]
    return found

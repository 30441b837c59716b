"""Masks of several members as one number a voxel: bit m is set where member m has the segment.

Voxels with the same number are the same to every rule that only asks who voted, so a rule runs over
at most 2^members patterns instead of millions of voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.errors import RequestError

__all__ = ["Patterns", "patterns"]

_MOST: Final = 16


@dataclass(frozen=True, eq=False, slots=True)
class Patterns:
    """`codes`: uint16 [...] of voxels; `votes`: bool [codes, members]; `counts`: voxels [codes]."""

    codes: NDArray[np.uint16]
    votes: NDArray[np.bool_]
    counts: NDArray[np.float64]


def patterns(members: Sequence[NDArray[Any]]) -> Patterns:
    """Return the patterns of masks [...] (0 or not).

    Raises:
        RequestError: there are no members, or over 16.
    """
    if not 0 < len(members) <= _MOST:
        raise RequestError(f"{len(members)} members: 1 to {_MOST} can be fused.")
    codes = np.zeros(members[0].shape, np.uint16)
    for place, member in enumerate(members):
        codes |= (member != 0).astype(np.uint16) << np.uint16(place)
    counts = np.bincount(codes.ravel(), minlength=1 << len(members)).astype(np.float64)
    every = np.arange(1 << len(members))
    votes = (every[:, None] >> np.arange(len(members)) & 1).astype(bool)
    return Patterns(codes, votes, counts)

"""Majority vote over labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Tie", "majority"]

Labels = NDArray[Any]
# Of labels with equally many votes: none of them but background (as a mean above one half of a
# binary vote), the lowest number (as an argmax over counts), or that of the earliest member.
Tie = Literal["background", "lowest", "first-member"]


def majority(members: Sequence[Labels], tie: Tie) -> Labels:
    """Return the label of each voxel that most members have, of the members' type and shape.

    Only voxels where two members differ are counted; each label there has the votes of the members
    that share it, so that the cost grows with members, not with labels.
    """
    voted = members[0].copy()
    differ = np.zeros(voted.shape, bool)
    for member in members[1:]:
        differ |= member != members[0]
    here = np.stack([member[differ] for member in members])
    votes = np.stack([(here == one).sum(axis=0) for one in here])
    top = votes == votes.max(axis=0)
    if tie == "first-member":
        chosen = np.take_along_axis(here, top.argmax(axis=0)[None], axis=0)[0]
    else:
        highest = np.iinfo(voted.dtype).max
        lowest = np.where(top, here, highest).min(axis=0)
        greatest = np.where(top, here, 0).max(axis=0)
        tied = 0 if tie == "background" else lowest
        chosen = np.where(lowest == greatest, lowest, tied)
    voted[differ] = chosen
    return voted

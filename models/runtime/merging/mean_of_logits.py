"""Mean of logits: nnU-Net's folds and mirrored passes, MRSegmentator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["mean_of_logits"]


def mean_of_logits(members: Sequence[Any]) -> Any:
    """Return the mean [k, ...] of the members' logits; an activation follows.

    Under a softmax this is the geometric mean of probabilities. Where members share their tiles,
    `Merger` with `passes` gives the same and holds one ring for all of them.
    """
    total = members[0] + 0.0
    for member in members[1:]:
        total += member
    total /= len(members)
    return total

"""SIMPLE as the BraTS Toolkit has it: a vote whose weights are the members' Dice with the vote.

Its published form drops poor members; there every weight lies between 1 and 4 and none is ever
below the threshold, so the threshold only has an effect where a plan sets a greater one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.merging.votes import Patterns, patterns

__all__ = ["simple", "simple_regions"]

F64 = NDArray[np.float64]
_DROP_BELOW: Final = 0.05
_SETTLED_VOXELS: Final = 25
_ROUNDS: Final = 25


def simple(members: Sequence[NDArray[Any]], drop_below: float = _DROP_BELOW) -> NDArray[np.bool_]:
    """Fuse masks [...] (0 or not) of one segment.

    A voxel belongs where at least half of the weight votes for it. Weights are (Dice + 1)^2 with
    the last vote; members with at most `drop_below` of the largest weight are left out. Ends when
    fewer than 25 voxels change in count, or after 25 rounds.
    """
    found = patterns(members)
    fused = _vote(found, np.ones(len(members)))
    voxels = float(found.counts @ fused)
    for _ in range(_ROUNDS):
        weights = (_dice(found, fused) + 1.0) ** 2
        weights[weights <= drop_below * weights.max()] = 0.0
        fused = _vote(found, weights)
        before, voxels = voxels, float(found.counts @ fused)
        if abs(voxels - before) < _SETTLED_VOXELS:
            break
    return fused[found.codes]


def simple_regions(
    members: Sequence[NDArray[Any]],
    regions: Sequence[tuple[int, Sequence[int]]],
    drop_below: float = _DROP_BELOW,
) -> NDArray[Any]:
    """Fuse labels [...] region by region: (label that is written, labels that make the region).

    Later regions overwrite earlier ones, so nested ones go from the outer to the inner.
    """
    fused = np.zeros_like(members[0])
    for label, parts in regions:
        fused[simple([np.isin(member, parts) for member in members], drop_below)] = label
    return fused


def _vote(found: Patterns, weights: F64) -> NDArray[np.bool_]:
    """Of each pattern, whether at least half of the weight votes for it; no vote is no voxel."""
    for_it = found.votes @ weights
    return (for_it >= weights.sum() / 2.0) & found.votes.any(axis=1)


def _dice(found: Patterns, fused: NDArray[np.bool_]) -> F64:
    """Each member's Dice with the fused mask; of two empty masks 0, as there."""
    both = (found.counts * fused) @ found.votes
    sizes = found.counts @ found.votes + float(found.counts @ fused)
    return np.divide(2.0 * both, sizes, out=np.zeros_like(sizes), where=sizes > 0)

"""STAPLE: the hidden truth and each member's quality, by expectation and maximisation.

As ITK's `STAPLEImageFilter` (Warfield 2004): one prior for all voxels, the mean of the votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.runtime.merging.votes import Patterns, patterns

__all__ = ["Staple", "staple", "staple_labels"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# ITK's own bound; it sets none for the rounds.
_SETTLED: Final = 1e-14
_ROUNDS: Final = 500


@dataclass(frozen=True, eq=False, slots=True)
class Staple:
    """`probability`: float32 [...] that a voxel belongs to the segment; per member the shares of
    its voxels inside and outside that it finds."""

    probability: F32
    sensitivity: F64
    specificity: F64


def staple(members: Sequence[NDArray[Any]]) -> Staple:
    """Fuse masks [...] (0 or not) of one segment; belongs where the probability is at least 0.5.

    The prior is the mean vote over what is given: cut the masks to the box of their union first,
    or a large background makes every member look specific. Masks that are all empty stay empty.
    """
    found = patterns(members)
    sensitivity, specificity = np.ones(len(members)), np.ones(len(members))
    if not found.counts[1:].any():
        return Staple(np.zeros(found.codes.shape, np.float32), sensitivity, specificity)
    truth = found.votes.mean(axis=1)
    prior = float(found.counts @ truth / found.counts.sum())
    for _ in range(_ROUNDS):
        before = np.concatenate([sensitivity, specificity])
        sensitivity, specificity = _qualities(found, truth)
        truth = _truth(found.votes, sensitivity, specificity, prior)
        now = np.concatenate([sensitivity, specificity])
        if ((now - before) ** 2 <= _SETTLED).all():
            break
    return Staple(truth.astype(np.float32)[found.codes], sensitivity, specificity)


def staple_labels(members: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Fuse labels [...]: each label against all others, then the most probable one.

    Background where no label reaches one half; of equally probable labels the lowest.
    """
    fused = np.zeros_like(members[0])
    best = np.full(fused.shape, np.float32(0.5))
    best = np.nextafter(best, np.float32(0.0))
    for label in np.unique(np.concatenate([np.unique(member) for member in members])):
        if label == 0:
            continue
        probability = staple([member == label for member in members]).probability
        better = probability > best
        fused[better] = label
        best[better] = probability[better]
    return fused


def _qualities(found: Patterns, truth: F64) -> tuple[F64, F64]:
    inside, outside = found.counts * truth, found.counts * (1.0 - truth)
    return _share(inside @ found.votes, inside.sum()), _share(outside @ ~found.votes, outside.sum())


def _share(part: F64, whole: float) -> F64:
    """All of nothing is one: a member cannot miss what is not there."""
    return part / whole if whole > 0 else np.ones_like(part)


def _truth(votes: NDArray[np.bool_], sensitivity: F64, specificity: F64, prior: float) -> F64:
    if_inside = prior * np.where(votes, sensitivity, 1.0 - sensitivity).prod(axis=1)
    if_outside = (1.0 - prior) * np.where(votes, 1.0 - specificity, specificity).prod(axis=1)
    either = if_inside + if_outside
    # A pattern that neither explains occurs nowhere; it may say anything.
    return np.divide(if_inside, either, out=np.zeros_like(either), where=either > 0)

"""How unsure an ensemble is: of each voxel, of each segment, and of a volume."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

__all__ = [
    "disagreement",
    "entropy",
    "mutual_information",
    "pair_disagreement",
    "region_entropy",
    "volume_interval",
]

_NUMBERS: Final = 256


def entropy(probabilities: Any) -> Any:
    """Return -sum p log p [...] over the classes of [k, ...], in nats: 0 to log k."""
    xp = array_namespace(probabilities)
    return -xp.sum(_p_log_p(probabilities), axis=0)


def region_entropy(probabilities: Any) -> Any:
    """Return the entropy [r, ...] of each region by itself, in nats: 0 to log 2."""
    return -(_p_log_p(probabilities) + _p_log_p(1.0 - probabilities))


def mutual_information(members: Sequence[Any]) -> Any:
    """Return the entropy of the mean less the mean entropy of the members [...]; never negative.

    What is unsure because the members disagree, not because each of them is.
    """
    xp = array_namespace(members[0])
    mean = members[0] + 0.0
    expected = entropy(members[0])
    for member in members[1:]:
        mean += member
        expected = expected + entropy(member)
    found = entropy(mean / len(members)) - expected / len(members)
    return xp.maximum(found, xp.zeros_like(found))


def disagreement(labels: Sequence[Any]) -> Any:
    """Return the share [...] of the members without the commonest label: 0 where all agree."""
    xp = array_namespace(labels[0])
    most = xp.zeros(labels[0].shape, dtype=xp.uint8)
    for one in labels:
        votes = xp.zeros_like(most)
        for other in labels:
            votes += xp.astype(one == other, xp.uint8)
        most = xp.maximum(most, votes)
    return 1.0 - xp.astype(most, xp.float32) / len(labels)


def pair_disagreement(labels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return of each segment, [256], 1 less the mean Dice over all pairs of members.

    Two that both find nothing of a segment agree about it. After Roy et al. 2019 (NeuroImage
    195:11-22), who take the mean Dice over pairs of passes for a structure's certainty. One pass
    over the labels a pair, as far as any member has a segment.
    """
    dice = np.zeros(_NUMBERS, np.float64)
    anywhere = np.logical_or.reduce([one > 0 for one in labels])
    found = [one[anywhere] for one in labels]
    sizes = [np.bincount(one, minlength=_NUMBERS) for one in found]
    pairs = list(itertools.combinations(range(len(found)), 2))
    for one, other in pairs:
        shared = np.bincount(found[one][found[one] == found[other]], minlength=_NUMBERS)
        of_both = (sizes[one] + sizes[other]).astype(np.float64)
        dice += np.divide(2.0 * shared, of_both, out=np.ones(_NUMBERS), where=of_both > 0)
    return 1.0 - dice / len(pairs)


def volume_interval(
    volumes_ml: NDArray[np.float64], low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two quantiles [...] of the members' volumes [members, ...], between two by line."""
    least, greatest = np.quantile(volumes_ml, [low, high], axis=0)
    return least, greatest


def _p_log_p(probabilities: Any) -> Any:
    """p log p, 0 where p is."""
    xp = array_namespace(probabilities)
    positive = probabilities > 0
    return probabilities * xp.log(xp.where(positive, probabilities, 1.0))

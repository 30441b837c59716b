"""How unsure an ensemble is: of each voxel, and of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

__all__ = [
    "VolumeInterval",
    "disagreement",
    "entropy",
    "mutual_information",
    "region_entropy",
    "volume_interval",
]


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


@dataclass(frozen=True, slots=True)
class VolumeInterval:
    """A segment's volume over the members of an ensemble.

    `low_ml` and `high_ml` are the 2.5th and 97.5th percentiles, between members by line.
    """

    median_ml: float
    low_ml: float
    high_ml: float
    least_ml: float
    greatest_ml: float


def volume_interval(voxels: NDArray[np.int64], voxel_ml: float) -> VolumeInterval:
    """Return the interval of a segment that each member counts so many voxels of, [members]."""
    volumes = voxels * voxel_ml
    low, median, high = np.percentile(volumes, [2.5, 50.0, 97.5]).tolist()
    return VolumeInterval(median, low, high, float(volumes.min()), float(volumes.max()))


def _p_log_p(probabilities: Any) -> Any:
    """p log p, 0 where p is."""
    xp = array_namespace(probabilities)
    positive = probabilities > 0
    return probabilities * xp.log(xp.where(positive, probabilities, 1.0))

"""Mean of probabilities in which each member counts, voxel by voxel, as much as it is sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from array_api_compat import array_namespace

__all__ = ["Confidence", "confidence_weighted", "mean_by_voxel"]

# largest: the greatest probability; margin: how far it lies above the second; region: for regions
# each by itself, how far from undecided, abs(2p - 1).
Confidence = Literal["largest", "margin", "region"]


def confidence_weighted(
    members: Sequence[Any], confidence: Confidence = "largest", power: float = 1.0
) -> Any:
    """Return sum(w p) / sum(w) [k, ...] with w = confidence ** power of a member at a voxel.

    Where no member is sure of anything, the plain mean.
    """
    return mean_by_voxel(members, lambda member: _confidence(member, confidence) ** power)


def mean_by_voxel(members: Sequence[Any], weigh: Callable[[Any], Any]) -> Any:
    """Return the mean with weights [1 or k, ...] of each voxel; the plain mean where all are 0."""
    xp = array_namespace(members[0])
    plain = members[0] + 0.0
    weight = weigh(members[0])
    mean = members[0] * weight
    for member in members[1:]:
        own = weigh(member)
        plain += member
        mean += member * own
        weight = weight + own
    nothing = weight <= 0
    return xp.where(nothing, plain / len(members), mean / xp.where(nothing, 1.0, weight))


def _confidence(member: Any, confidence: Confidence) -> Any:
    xp = array_namespace(member)
    if confidence == "region":
        return xp.abs(2.0 * member - 1.0)
    largest = xp.max(member, axis=0, keepdims=True)
    if confidence == "largest":
        return largest
    ordered = xp.sort(member, axis=0)
    return ordered[-1:] - ordered[-2:-1]

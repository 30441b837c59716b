"""Mean of probabilities in which a member counts the less, the more undecided it is at a voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from array_api_compat import array_namespace

from models.runtime.merging.confidence_weighted import mean_by_voxel
from models.runtime.merging.uncertainty import entropy, region_entropy

__all__ = ["entropy_weighted"]


def entropy_weighted(
    members: Sequence[Any],
    weight: Literal["linear", "exponential"] = "linear",
    of: Literal["classes", "regions"] = "classes",
) -> Any:
    """Return sum(w p) / sum(w) [k, ...], w = 1 - H / log C (linear) or exp(-H) of a member.

    H is over the classes, or of each region by itself (then C is 2). Where all weights are 0, the
    plain mean.
    """

    def weigh(member: Any) -> Any:
        xp = array_namespace(member)
        found = region_entropy(member) if of == "regions" else entropy(member)[None]
        if weight == "exponential":
            return xp.exp(-found)
        classes = 2 if of == "regions" else int(member.shape[0])
        # Rounding must not make an undecided member count less than nothing.
        return xp.clip(1.0 - found / math.log(classes), 0.0, 1.0)

    return mean_by_voxel(members, weigh)

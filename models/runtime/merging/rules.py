"""The rules of a plan for scores of several members, as functions of one slab of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.manifest.plan.merge import AnyMerge, ByConfidence, ByEntropy, Weighted
from models.runtime.merging.confidence_weighted import confidence_weighted
from models.runtime.merging.entropy_weighted import entropy_weighted
from models.runtime.merging.mean_of_probabilities import mean_of_probabilities
from models.runtime.merging.weighted import weighted

__all__ = ["rule_of"]


def rule_of(merge: AnyMerge) -> Callable[[Sequence[Any]], Any]:
    """Return what makes merged scores [k, ...] of the members' [k, ...] each."""
    match merge:
        case Weighted():
            weights = np.array(merge.weights, np.float64)
            return lambda members: weighted(members, weights)
        case ByConfidence():
            return lambda members: confidence_weighted(members, merge.by, merge.power)
        case ByEntropy():
            return lambda members: entropy_weighted(members, merge.weight, merge.of)
        case _:
            return mean_of_probabilities

"""Weighted mean of probabilities: one weight a member, or one a member and class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from models.runtime.errors import RequestError

__all__ = ["weighted"]


def weighted(members: Sequence[Any], weights: NDArray[np.float64]) -> Any:
    """Return the weighted mean [k, ...] of the members' probabilities.

    Args:
        members: probabilities [k, ...] of each.
        weights: [members], or [members, k] for each class its own; not negative.

    Raises:
        RequestError: the weights do not fit, or leave a class without any.
    """
    fits = len(weights) == len(members) and (
        weights.ndim == 1 or weights.shape[1] == members[0].shape[0]
    )
    total = weights.sum(axis=0)
    if not fits or (weights < 0).any() or (np.asarray(total) <= 0).any():
        raise RequestError(f"Weights {weights.tolist()} do not fit {len(members)} members.")
    shares = weights / total
    mean = members[0] * _for_classes(shares[0], members[0])
    for share, member in zip(shares[1:], members[1:], strict=True):
        mean += member * _for_classes(share, member)
    return mean


def _for_classes(share: Any, scores: Any) -> Any:
    """One share a class, shaped so that it meets the classes of [k, ...]."""
    xp = array_namespace(scores)
    each = xp.asarray(np.atleast_1d(share).astype(np.float32), device=device(scores))
    return xp.reshape(each, (-1,) + (1,) * (scores.ndim - 1))

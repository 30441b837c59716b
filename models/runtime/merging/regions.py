"""Regions that lie in each other, as one label volume: nnU-Net's decision for regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from models.runtime.errors import RequestError
from models.runtime.merging.decision import label_type

__all__ = ["regions_to_labels", "thresholded"]


def thresholded(probabilities: Any, thresholds: Sequence[float]) -> Any:
    """Return bool [r, ...]: whether the probability of each region is above its threshold."""
    if len(thresholds) != int(probabilities.shape[0]):
        raise RequestError(
            f"{len(thresholds)} thresholds do not fit {probabilities.shape[0]} regions."
        )
    xp = array_namespace(probabilities)
    each = xp.asarray(np.array(thresholds, np.float32), device=device(probabilities))
    return probabilities > xp.reshape(each, (-1,) + (1,) * (probabilities.ndim - 1))


def regions_to_labels(regions: Any, order: Sequence[int]) -> Any:
    """Return labels [...] of masks [r, ...]: region i writes `order[i]`, later ones overwrite.

    `order` is nnU-Net's regions_class_order, from the outermost region to the innermost.
    """
    xp = array_namespace(regions)
    name = np.dtype(label_type(max(order) + 1)).name
    labels = xp.zeros(regions.shape[1:], dtype=getattr(xp, name), device=device(regions))
    for region, label in zip(regions, order, strict=True):
        labels[region] = label
    return labels

"""How far two masks agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["dice", "differing_voxels"]


def dice(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return 2 |A and B| / (|A| + |B|) of two masks of one shape; foreground is not 0.

    Two empty masks agree: 1.0.

    Raises:
        ValueError: the masks have different shapes.
    """
    one, other = _masks(first, second)
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    if total == 0:
        return 1.0
    return 2.0 * int(np.count_nonzero(one & other)) / total


def differing_voxels(first: NDArray[Any], second: NDArray[Any]) -> int:
    """Return how many voxels are foreground in exactly one of two masks of one shape."""
    one, other = _masks(first, second)
    return int(np.count_nonzero(one ^ other))


def _masks(
    first: NDArray[Any], second: NDArray[Any]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if first.shape != second.shape:
        raise ValueError(f"masks of shapes {first.shape} and {second.shape} cannot be compared")
    return first != 0, second != 0

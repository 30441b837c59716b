"""How much each voxel of a tile counts where tiles overlap."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.sampling import Shape

__all__ = ["Weight", "tile_weights"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Weight = Literal["constant", "gaussian-nnunet", "gaussian-monai"]

_SIGMA: Final = 0.125
# nnU-Net's predictor scales its map so that its largest weight is this.
_NNUNET_LARGEST: Final = 10.0
# SciPy's gaussian filter ends after so many sigmas.
_TRUNCATE: Final = 4.0
_MONAI_SMALLEST: Final = 1e-3


@lru_cache(maxsize=8)
def tile_weights(size: Shape, weight: Weight) -> F32:
    """Return float32 weights of a tile of this size, all positive; not to be changed."""
    made = {"constant": _constant, "gaussian-nnunet": _nnunet, "gaussian-monai": _monai}[weight](
        size
    )
    made.setflags(write=False)
    return made


def _constant(size: Shape) -> F32:
    return np.ones(size, np.float32)


def _nnunet(size: Shape) -> F32:
    """`compute_gaussian` of nnunetv2: a filtered point, half precision, no zeros."""
    first, second, third = (_filtered_point(length) for length in size)
    weights = first[:, None, None] * second[:, None] * third
    # Kept in half precision there: what that cannot hold is zero, and gets the smallest weight.
    halves = (weights * (_NNUNET_LARGEST / weights.max())).astype(np.float16)
    halves[halves == 0] = halves[halves > 0].min()
    return halves.astype(np.float32)


def _filtered_point(length: int) -> F64:
    sigma = length * _SIGMA
    apart = np.arange(length) - length // 2
    weights = np.exp(-0.5 * (apart / sigma) ** 2)
    weights[np.abs(apart) > int(_TRUNCATE * sigma + 0.5)] = 0.0
    return weights


def _monai(size: Shape) -> F32:
    """`compute_importance_map` of MONAI: a gaussian about the middle, not below 0.001."""
    weights = np.ones((), np.float32)
    for length in size:
        apart = np.arange(length, dtype=np.float32) - np.float32((length - 1) / 2)
        sigma = length * _SIGMA
        weights = weights[..., None] * np.exp(apart**2 / np.float32(-2 * sigma**2))
    return np.maximum(weights, max(float(weights.min()), _MONAI_SMALLEST))

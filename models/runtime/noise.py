"""Normal noise that is the same in every run, for networks that were trained with noise around."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["AROUND", "standard_noise"]

# Part of what models are: with another seed other voxels could come out differently.
_SEED: Final = 2017
# The stream of what lies around an image; those of its channels are 0, 1, ...
AROUND: Final = 1 << 16


def standard_noise(shape: tuple[int, ...], stream: int) -> NDArray[np.float32]:
    """Return values of mean 0 and deviation 1; streams know nothing of each other."""
    return np.random.default_rng([_SEED, stream]).standard_normal(shape, np.float32)

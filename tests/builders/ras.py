"""Affines as NIfTI has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def lps_from_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine into RAS millimetres as one into LPS millimetres; its own inverse."""
    return _LPS_RAS @ np.asarray(affine, np.float64)

"""Mean of probabilities: Auto3DSeg, BLAST-CT, nnU-Net across configurations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.runtime.merging.weighted import weighted

__all__ = ["mean_of_probabilities"]


def mean_of_probabilities(members: Sequence[Any]) -> Any:
    """Return the plain mean [k, ...] of the members' probabilities."""
    return weighted(members, np.ones(len(members)))

"""Classes of MONAI by name; imported only when one of them is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.networks import nets

__all__ = ["build"]

# What only says how training is done, and is of no use here.
_TRAINING = ("use_checkpoint",)


def build(name: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Build `monai.networks.nets.<name>`; TypeError or ValueError for wrong arguments."""
    kept = {key: value for key, value in arguments.items() if key not in _TRAINING}
    network: torch.nn.Module = getattr(nets, name)(**kept)
    return network

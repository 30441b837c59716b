"""TorchScript archives: a network with its code, run by PyTorch's own interpreter only."""

from __future__ import annotations

from pathlib import Path

import torch

from models.building.errors import WeightsError

__all__ = ["read_torchscript"]


def read_torchscript(file: Path) -> torch.nn.Module:
    """Return the network on the CPU, for inference; WeightsError when it is no archive."""
    try:
        network: torch.nn.Module = torch.jit.load(str(file), map_location="cpu")  # pyright: ignore[reportPrivateImportUsage]
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{file} is no TorchScript archive ({error}).") from error
    return network.eval()

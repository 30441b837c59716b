"""TorchScript archives: a network with its code, run by PyTorch's own interpreter only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.building.errors import WeightsError

__all__ = ["answer_of", "read_torchscript"]


def read_torchscript(file: Path) -> torch.nn.Module:
    """Return the network on the CPU, for inference; WeightsError when it is no archive."""
    try:
        network: torch.nn.Module = torch.jit.load(str(file), map_location="cpu")  # pyright: ignore[reportPrivateImportUsage]
    except (RuntimeError, ValueError) as error:
        raise WeightsError(f"{file} is no TorchScript archive ({error}).") from error
    return network.eval()


def answer_of(file: Path, patch: tuple[int, int, int]) -> tuple[int, ...]:
    """Run a network of one channel on an empty patch; returns its answer's shape [n, k, *out].

    Raises:
        WeightsError: it is no archive, takes no such patch, or answers with no such tensor.
    """
    network = read_torchscript(file)
    try:
        with torch.inference_mode():
            answer: Any = network(torch.zeros(1, 1, *patch))
    except RuntimeError as error:
        told = str(error).strip().splitlines()[-1]
        raise WeightsError(
            f"{file} takes no patch of {list(patch)} with one channel ({told}). Correct the patch."
        ) from error
    if not isinstance(answer, torch.Tensor) or answer.ndim != 5:
        raise WeightsError(
            f"{file} answers with something else than scores [n, classes, *patch]. Wrap it in a "
            "module that gives these, and save that."
        )
    return tuple(answer.shape)

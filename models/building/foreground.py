"""Trained networks as modules that answer with a mask: the one place that reads weights."""

from __future__ import annotations

from pathlib import Path

import torch

from models.building.errors import BuildError

__all__ = ["save_foreground_module"]

# Any size will do to trace a fully convolutional network; small is fast.
_EXAMPLE = (1, 1, 32, 32, 32)


class _Foreground(torch.nn.Module):
    """`channel` > `threshold` of a network's output, as uint8 [1, 1, x, y, z]."""

    def __init__(self, network: torch.nn.Module, channel: int, threshold: float) -> None:
        super().__init__()
        self.network = network
        self.channel = channel
        self.threshold = threshold

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(image)
        above = found[:, self.channel : self.channel + 1] > self.threshold
        # By way of float32, because TensorRT casts to uint8 from floating point only.
        return above.to(torch.float32).to(torch.uint8)


def save_foreground_module(
    weights: Path, channel: int, threshold: float, module_file: Path
) -> None:
    """Read TorchScript weights (an archive of declared format; its hash is checked before) and
    save the module float32 [1, 1, x, y, z] -> uint8 [1, 1, x, y, z] as TorchScript.
    """
    try:
        network = torch.jit.load(str(weights), map_location="cpu").eval()  # pyright: ignore[reportPrivateImportUsage]
    except RuntimeError as error:
        raise BuildError(f"{weights} is no TorchScript archive ({error}).") from error
    with torch.inference_mode():
        module = torch.jit.trace(  # pyright: ignore[reportPrivateImportUsage]
            _Foreground(network, channel, threshold).eval(),
            torch.rand(_EXAMPLE, generator=torch.Generator().manual_seed(0)),
            check_trace=False,
        )
        torch.jit.save(module, str(module_file))  # pyright: ignore[reportPrivateImportUsage]

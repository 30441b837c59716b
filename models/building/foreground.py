"""Trained networks as modules that answer with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from models.building.errors import BuildError, ClassesError

__all__ = ["Head", "save_foreground_module"]

# Any size will do to trace a fully convolutional network; small is fast.
_EXAMPLE = (1, 1, 32, 32, 32)


@dataclass(frozen=True, slots=True)
class Head:
    """What a network's output becomes: `channel` of its scores > `threshold`.

    `classes`: how many channels the output has; `activation` makes scores of it.
    """

    classes: int
    activation: Literal["softmax", "sigmoid", "none"]
    channel: int
    threshold: float


class _Foreground(torch.nn.Module):
    """The head's foreground of a network's output, as uint8 [1, 1, x, y, z]."""

    def __init__(self, network: torch.nn.Module, head: Head) -> None:
        super().__init__()
        self.network = network
        self.activation = head.activation
        self.channel = head.channel
        self.threshold = head.threshold

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(image)
        if self.activation == "softmax":
            scores = scores.softmax(dim=1)
        elif self.activation == "sigmoid":
            scores = scores.sigmoid()
        above = scores[:, self.channel : self.channel + 1] > self.threshold
        # By way of float32, because TensorRT casts to uint8 from floating point only.
        return above.to(torch.float32).to(torch.uint8)


def save_foreground_module(
    network: torch.nn.Module, weights: Path, head: Head, module_file: Path
) -> None:
    """Save a network of any patch as float32 [1, 1, x, y, z] -> uint8 [1, 1, x, y, z].

    As TorchScript; `weights` is the file that the network was read from, for errors. Raises
    ClassesError when the network has not the head's number of classes, BuildError when it is no
    network of volumes.
    """
    with torch.inference_mode():
        example = torch.rand(_EXAMPLE, generator=torch.Generator().manual_seed(0))
        _require_classes(network, example, head.classes, weights)
        module = torch.jit.trace(_Foreground(network, head).eval(), example, check_trace=False)  # pyright: ignore[reportPrivateImportUsage]
        torch.jit.save(module, str(module_file))  # pyright: ignore[reportPrivateImportUsage]


def _require_classes(
    network: torch.nn.Module, example: torch.Tensor, classes: int, weights: Path
) -> None:
    try:
        found: torch.Tensor = network(example)
    except RuntimeError as error:
        raise BuildError(f"{weights} takes no image of one channel ({error}).") from error
    if found.ndim != example.ndim or found.shape[2:] != example.shape[2:]:
        raise BuildError(
            f"{weights} makes {list(found.shape)} of an image {list(example.shape)}; wanted is one "
            "score a class and voxel."
        )
    if found.shape[1] != classes:
        raise ClassesError(
            f"{weights} has {found.shape[1]} classes, not {classes}.", found.shape[1]
        )

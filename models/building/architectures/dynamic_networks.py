"""nnU-Net's networks (dynamic-network-architectures) by the names and arguments of its plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import torch
from dynamic_network_architectures.architectures import unet
from dynamic_network_architectures.building_blocks.residual import BasicBlockD, BottleneckD
from torch import nn

__all__ = ["build"]

# The classes that plans may name, by the names they use; nothing else is looked up.
_CLASSES: Final[Mapping[str, type[Any]]] = {
    "torch.nn.modules.conv.Conv2d": nn.Conv2d,
    "torch.nn.modules.conv.Conv3d": nn.Conv3d,
    "torch.nn.modules.instancenorm.InstanceNorm2d": nn.InstanceNorm2d,
    "torch.nn.modules.instancenorm.InstanceNorm3d": nn.InstanceNorm3d,
    "torch.nn.modules.batchnorm.BatchNorm2d": nn.BatchNorm2d,
    "torch.nn.modules.batchnorm.BatchNorm3d": nn.BatchNorm3d,
    "torch.nn.modules.activation.LeakyReLU": nn.LeakyReLU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.LeakyReLU": nn.LeakyReLU,
    "torch.nn.ReLU": nn.ReLU,
    "dynamic_network_architectures.building_blocks.residual.BasicBlockD": BasicBlockD,
    "dynamic_network_architectures.building_blocks.residual.BottleneckD": BottleneckD,
}
_NAMING: Final = ("conv_op", "norm_op", "nonlin", "dropout_op", "block")


def build(name: str, arguments: Mapping[str, Any]) -> torch.nn.Module:
    """Build a class of the library's `unet`; TypeError, ValueError or KeyError for arguments.

    The network answers with the finest scores alone; the heads of the coarser levels are there,
    because the files hold their weights. One of planes takes volumes of one plane.
    """
    kept = {
        key: _class(key, value) if key in _NAMING and value is not None else value
        for key, value in arguments.items()
    }
    kept["deep_supervision"] = False
    made: type[Any] = getattr(unet, name)
    if kept.get("conv_op") is nn.Conv2d:
        made = type(f"{name}OfPlanes", (_OfPlanes, made), {})
    network: torch.nn.Module = made(**kept)
    return network


class _OfPlanes:
    """Before a network of planes: float32 [n, c, 1, h, w] in, [n, k, 1, h, w] out."""

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """See the class."""
        answer: torch.Tensor = super().forward(planes.squeeze(2))  # type: ignore[misc]
        return answer.unsqueeze(2)


def _class(argument: str, named: Any) -> type[Any]:
    if named not in _CLASSES:
        raise ValueError(f"{argument} names {named}, which is not one of {', '.join(_CLASSES)}")
    return _CLASSES[named]

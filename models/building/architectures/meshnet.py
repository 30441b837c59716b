"""MeshNet: a stack of dilated convolutions of one width (Fedorov and others, IJCNN 2017)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from models.building.architectures.described import Architecture, Count, Counts
from models.manifest.base import Part

__all__ = ["ARCHITECTURE", "MeshNet", "MeshNetArguments"]

_EPSILON = 1e-5


class MeshNetArguments(Part):
    """What a MeshNet is made of.

    Attributes:
        width: channels of every layer but the last.
        dilations: one 3 x 3 x 3 convolution each, padded so that the size stays.
        activation: after every layer but the last.
        normalisation: `none` where batch normalisation was folded into the weights; `instance`:
            each channel of each sample by its own mean and variance, without scale and shift
            (brainchop does so after layers whose names end in `_gn`).
        bias: whether the layers but the last add one; the last always does.
    """

    input_channels: Count = 1
    classes: Annotated[int, Field(ge=2, le=255)]
    width: Count
    dilations: Counts
    activation: Literal["relu", "elu", "gelu"]
    normalisation: Literal["none", "instance"] = "none"
    bias: bool = True


class MeshNet(nn.Module):
    """float32 [n, c, x, y, z] -> scores float32 [n, classes, x, y, z] (of no activation)."""

    def __init__(self, arguments: MeshNetArguments) -> None:
        super().__init__()
        widths = [arguments.input_channels] + [arguments.width] * len(arguments.dilations)
        self.layers = nn.ModuleList(
            nn.Conv3d(
                width, arguments.width, 3, padding=dilation, dilation=dilation, bias=arguments.bias
            )
            for width, dilation in zip(widths, arguments.dilations, strict=False)
        )
        self.output = nn.Conv3d(arguments.width, arguments.classes, 1)
        self.activation = _ACTIVATIONS[arguments.activation]()
        self.normalise = (
            nn.InstanceNorm3d(arguments.width, eps=_EPSILON)
            if arguments.normalisation == "instance"
            else nn.Identity()
        )
        # On a CPU torch runs the whole network in half the time so, and gives the same values.
        self.to(memory_format=torch.channels_last_3d)  # pyright: ignore[reportCallIssue]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        for layer in self.layers:
            image = self.activation(self.normalise(layer(image)))
        found: torch.Tensor = self.output(image)
        return found


_ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}

ARCHITECTURE = Architecture(MeshNetArguments, MeshNet)

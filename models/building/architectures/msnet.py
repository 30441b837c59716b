"""MSNet: an anisotropic network for stacks of slices (Wang and others, BraTS 2017).

As published (github.com/taigw/brats17, NiftyNet's layers) with what TensorFlow does beside the
formulas: statistics of the sample itself at inference, padding behind only where the stride is 2.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from models.building.architectures.described import Architecture, Count
from models.building.architectures.keys import KeyMap
from models.manifest.base import Part

__all__ = ["ARCHITECTURE", "MSNet", "MSNetArguments"]

_EPSILON = 1e-5
_IN_PLANE = (1, 3, 3)
_ACROSS = (3, 1, 1)
_HALVE = (1, 2, 2)
# Slices that the four convolutions across slices take from each side, and those left to take
# where each of the three scales is read.
_MARGINS = (2, 1, 0)

Width = Annotated[int, Field(ge=1, le=512)]


class MSNetArguments(Part):
    """What an MSNet is made of.

    Attributes:
        widths: channels of the four stages.
        downsample_twice: whether the first stage is halved too (whole tumour and core: yes).
    """

    input_channels: Count = 4
    classes: Annotated[int, Field(ge=2, le=255)] = 2
    widths: Annotated[tuple[Width, Width, Width, Width], Field(strict=False)] = (32, 32, 32, 32)
    downsample_twice: bool


class MSNet(nn.Module):
    """float32 [n, c, s, h, w] -> scores float32 [n, classes, s - 8, h, w] (of no activation).

    The middle slices are scored; h and w are multiples of 4, or of 2 where it halves once.
    Normalisation is by each sample's own statistics, so samples of a batch do not mix.
    """

    def __init__(self, arguments: MSNetArguments) -> None:
        super().__init__()
        one, two, three, four = arguments.widths
        classes, twice = arguments.classes, arguments.downsample_twice
        self.block1_1 = _Residual(arguments.input_channels, one, 1)
        self.block1_2 = _Residual(one, one, 1)
        self.fuse1 = _Convolution(one, one, _ACROSS)
        if twice:
            self.downsample1 = _Convolution(one, one, _IN_PLANE, _HALVE)
        self.feature_expand1 = _expanded(one, two)
        self.block2_1 = _Residual(two, two, 1)
        self.block2_2 = _Residual(two, two, 1)
        self.fuse2 = _Convolution(two, two, _ACROSS)
        self.downsample2 = _Convolution(two, two, _IN_PLANE, _HALVE)
        self.feature_expand2 = _expanded(two, three)
        self.block3_1 = _Residual(three, three, 1)
        self.block3_2 = _Residual(three, three, 2)
        self.block3_3 = _Residual(three, three, 3)
        self.fuse3 = _Convolution(three, three, _ACROSS)
        self.feature_expand3 = _expanded(three, four)
        self.block4_1 = _Residual(four, four, 3)
        self.block4_2 = _Residual(four, four, 2)
        self.block4_3 = _Residual(four, four, 1)
        self.fuse4 = _Convolution(four, four, _ACROSS)
        self.pred_up2_1 = _Doubled(three, 2 * classes)
        self.pred_up3_1 = _Doubled(four, 4 * classes)
        if twice:
            self.pred_up1 = _Doubled(two, classes)
            self.pred_up2_2 = _Doubled(2 * classes, 2 * classes)
            self.pred_up3_2 = _Doubled(4 * classes, 4 * classes)
        else:
            self.pred1 = _in_plane(two, classes, 1)
        self.final_pred = _in_plane(7 * classes, classes, 1)
        self._twice = twice

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        first = self.fuse1(self.block1_2(self.block1_1(image)))
        if self._twice:
            first = self.downsample1(first)
        first = self.fuse2(self.block2_2(self.block2_1(self.feature_expand1(first))))
        second = self.feature_expand2(self.downsample2(first))
        second = self.fuse3(self.block3_3(self.block3_2(self.block3_1(second))))
        third = self.block4_2(self.block4_1(self.feature_expand3(second)))
        third = self.fuse4(self.block4_3(third))
        first = _middle(first, _MARGINS[0])
        first = self.pred_up1(first) if self._twice else self.pred1(first)
        second = self.pred_up2_1(_middle(second, _MARGINS[1]))
        third = self.pred_up3_1(third)
        if self._twice:
            second, third = self.pred_up2_2(second), self.pred_up3_2(third)
        found: torch.Tensor = self.final_pred(torch.cat([first, second, third], dim=1))
        return found


class _Residual(nn.Module):
    """Twice normalise, PReLU, convolve in the plane; missing channels of the shortcut are 0."""

    def __init__(self, width_in: int, width_out: int, dilation: int) -> None:
        super().__init__()
        self.bn_0 = _normalised(width_in)
        self.prelu_acti_0 = nn.PReLU(width_in)
        self.conv_0 = _in_plane(width_in, width_out, dilation)
        self.bn_1 = _normalised(width_out)
        self.prelu_acti_1 = nn.PReLU(width_out)
        self.conv_1 = _in_plane(width_out, width_out, dilation)
        before = (width_out - width_in) // 2
        self._padding = [0] * 6 + [before, width_out - width_in - before]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.conv_0(self.prelu_acti_0(self.bn_0(image)))
        found = self.conv_1(self.prelu_acti_1(self.bn_1(found)))
        return found + (functional.pad(image, self._padding) if any(self._padding) else image)


class _Convolution(nn.Module):
    """Convolve, normalise, PReLU; across slices without padding."""

    def __init__(
        self,
        width_in: int,
        width_out: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.conv_ = nn.Conv3d(width_in, width_out, kernel, stride, bias=False)
        self.bn_ = _normalised(width_out)
        self.prelu_acti_ = nn.PReLU(width_out)
        self._halves = stride == _HALVE

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self._halves:
            # TensorFlow's SAME: at stride 2 and an even size, one voxel behind and none before.
            image = functional.pad(image, [0, 1, 0, 1])
        found: torch.Tensor = self.prelu_acti_(self.bn_(self.conv_(image)))
        return found


class _Doubled(nn.Module):
    """Transposed convolution to twice the size in the plane, normalise, PReLU."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.deconv_ = nn.ConvTranspose3d(width_in, width_out, _IN_PLANE, _HALVE, bias=False)
        self.bn_ = _normalised(width_out)
        self.prelu_acti_ = nn.PReLU(width_out)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        # 2 n + 1 becomes 2 n: TensorFlow's SAME drops the last.
        doubled = self.deconv_(image)[..., :-1, :-1]
        found: torch.Tensor = self.prelu_acti_(self.bn_(doubled))
        return found


def _in_plane(width_in: int, width_out: int, dilation: int) -> nn.Conv3d:
    around = (0, dilation, dilation)
    return nn.Conv3d(
        width_in, width_out, _IN_PLANE, padding=around, dilation=(1, dilation, dilation), bias=False
    )


def _normalised(width: int) -> nn.InstanceNorm3d:
    return nn.InstanceNorm3d(width, eps=_EPSILON, affine=True)


def _expanded(width_in: int, width_out: int) -> nn.Module:
    return nn.Identity() if width_in == width_out else _Convolution(width_in, width_out, (1, 1, 1))


def _middle(stack: torch.Tensor, margin: Literal[1, 2]) -> torch.Tensor:
    return stack[:, :, margin:-margin]


def _published(_: MSNetArguments) -> KeyMap:
    """Names of the TensorFlow checkpoints, below the network's scope (`MSNet_WT32/`)."""
    return KeyMap(
        drop=("*Adam*", "*/moving_mean*", "*/moving_variance*", "beta?_power"),
        replace=(
            ("/w", "/weight"),
            ("/gamma", "/weight"),
            ("/beta", "/bias"),
            ("/alpha", "/weight"),
            ("_bn_prelu/", "/"),
            ("/", "."),
        ),
    )


ARCHITECTURE = Architecture(MSNetArguments, MSNet, _published)

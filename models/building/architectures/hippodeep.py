"""The three networks of hippodeep (Thyreau and others, Medical Image Analysis 2018).

A head is masked, an affine map to the model's box is regressed, and in the box one hippocampus is
scored at a time (github.com/bthyreau/hippodeep_pytorch). The steps between belong to a plan.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from models.building.architectures.described import Architecture
from models.manifest.base import Part

__all__ = ["AFFINE", "HEAD", "HIPPOCAMPUS", "AffineNet", "HeadNet", "HippocampusNet"]


class NoArguments(Part):
    """The published networks exist in one size each."""


class HeadNet(nn.Module):
    """A U-Net over the whole head: float32 [n, 1, x, y, z] -> scores float32 [n, 4, x, y, z].

    Sides are multiples of 8. A sigmoid of each channel makes probabilities.
    """

    def __init__(self, _: NoArguments) -> None:
        super().__init__()
        self.conv0a, self.conv0b, self.bn0a = _conv(1, 8), _conv(8, 8), nn.BatchNorm3d(8)
        self.conv1a, self.conv1b, self.bn1a = _conv(8, 16), _conv(16, 24), nn.BatchNorm3d(24)
        self.conv2a, self.conv2b, self.bn2a = _conv(24, 24), _conv(24, 32), nn.BatchNorm3d(32)
        self.conv3a, self.conv3b, self.bn3a = _conv(32, 48), _conv(48, 48), nn.BatchNorm3d(48)
        self.conv2u, self.conv2v, self.bn2u = _conv(48, 24), _conv(56, 24), nn.BatchNorm3d(24)
        self.conv1u, self.conv1v, self.bn1u = _conv(24, 24), _conv(48, 24), nn.BatchNorm3d(24)
        self.conv0u, self.conv0v, self.bn0u = _conv(24, 16), _conv(24, 8), nn.BatchNorm3d(8)
        self.conv1x = nn.Conv3d(8, 4, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        fine = _elu(self.bn0a(self.conv0b(_elu(self.conv0a(image)))))
        half = _halved(fine)
        half = _elu(self.bn1a(self.conv1b(_elu(self.conv1a(half)))))
        quarter = _halved(half)
        quarter = _elu(self.bn2a(self.conv2b(_elu(self.conv2a(quarter)))))
        found = _halved(quarter)
        found = _elu(self.bn3a(self.conv3b(_elu(self.conv3a(found)))))
        found = torch.cat([_elu(self.conv2u(_doubled(found))), quarter], dim=1)
        found = _elu(self.bn2u(self.conv2v(found)))
        found = torch.cat([_elu(self.conv1u(_doubled(found))), half], dim=1)
        found = _elu(self.bn1u(self.conv1v(found)))
        found = torch.cat([_elu(self.conv0u(_doubled(found))), fine], dim=1)
        scores: torch.Tensor = self.conv1x(_elu(self.bn0u(self.conv0v(found))))
        return scores


class AffineNet(nn.Module):
    """Regresses an affine map: float32 [n, 2, 64, 64, 64] -> values float32 [n, 12].

    The values are the rows of a 3 x 4 matrix to which the identity is added; it maps places of the
    box to places of the input, both in -1..1 from the first voxel's centre to the last's.
    """

    def __init__(self, _: NoArguments) -> None:
        super().__init__()
        self.convaff1 = _conv(2, 16)
        self.convaff2, self.bnaff2 = _conv(16, 16), nn.LayerNorm([32, 32, 32])
        self.convaff3, self.bnaff3 = _conv(16, 32), nn.LayerNorm([16, 16, 16])
        self.convaff4, self.bnaff4 = _conv(32, 64), nn.LayerNorm([8, 8, 8])
        self.convaff5 = nn.Conv3d(64, 128, 1)
        self.convaff6 = nn.Conv3d(128, 12, 4)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        found = _halved(functional.relu(self.convaff1(image)))
        found = _halved(functional.relu(self.bnaff2(self.convaff2(found))))
        found = _halved(functional.relu(self.bnaff3(self.convaff3(found))))
        found = _halved(functional.relu(self.bnaff4(self.convaff4(found))))
        values: torch.Tensor = self.convaff6(functional.relu(self.convaff5(found)))
        return values.flatten(1)


class HippocampusNet(nn.Module):
    """One hippocampus: float32 [n, 1, x, y, z] -> scores float32 [n, 1, x - 4, y - 4, z - 4].

    Sides are multiples of 4. Published for (48, 72, 64); the other side is the mirrored input.
    A sigmoid makes probabilities.
    """

    def __init__(self, _: NoArguments) -> None:
        super().__init__()
        self.conv0a_0 = nn.Conv3d(1, 16, (1, 1, 3))
        self.conv0a_1 = nn.Conv3d(16, 16, (1, 3, 1))
        self.conv0a = nn.Conv3d(16, 16, (3, 1, 1))
        self.convf1 = nn.Conv3d(16, 48, 3)
        self.bn1, self.convout0, self.convout1 = nn.BatchNorm3d(48), _conv(48, 48), _conv(48, 48)
        self.bn2, self.convout2p, self.convout2 = nn.BatchNorm3d(48), _conv(48, 48), _conv(48, 48)
        self.convlx3, self.convlx5, self.convlx7 = _conv(48, 48), _conv(48, 48), _conv(48, 16)
        self.convlx8 = nn.Conv3d(16, 1, 1)
        self.blur = nn.Conv3d(1, 1, 7, padding=3)
        self.conv_extract = _conv(48, 47)
        self.convmix = _conv(48, 16)
        self.convout1x = nn.Conv3d(16, 1, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        found = functional.relu(self.conv0a_0(image))
        found = functional.relu(self.conv0a_1(found))
        fine = functional.relu(self.convf1(functional.relu(self.conv0a(found))))
        half = _halved(fine)
        found = self.convout1(functional.relu(self.convout0(self.bn1(half))))
        quarter = _halved(functional.relu(found + half))
        found = self.convout2(functional.relu(self.convout2p(self.bn2(quarter))))
        found = functional.relu(self.convlx3(functional.relu(found + quarter)))
        found = functional.relu(self.convlx5(_doubled(found)))
        found = functional.relu(self.convlx7(_doubled(found)))
        coarse = torch.sigmoid(self.convlx8(found))
        looked_at = torch.sigmoid(self.blur(coarse)) * fine
        extracted = functional.leaky_relu(self.conv_extract(looked_at))
        mixed = functional.relu(self.convmix(torch.cat([coarse, extracted], dim=1)))
        scores: torch.Tensor = self.convout1x(mixed)
        return scores


def _conv(width_in: int, width_out: int) -> nn.Conv3d:
    return nn.Conv3d(width_in, width_out, 3, padding=1)


def _elu(image: torch.Tensor) -> torch.Tensor:
    return functional.elu(image)


def _halved(image: torch.Tensor) -> torch.Tensor:
    return functional.max_pool3d(image, 2)


def _doubled(image: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(image, scale_factor=2.0, mode="nearest")


HEAD = Architecture(NoArguments, HeadNet)
AFFINE = Architecture(NoArguments, AffineNet)
HIPPOCAMPUS = Architecture(NoArguments, HippocampusNet)

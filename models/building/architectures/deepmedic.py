"""DeepMedic as BLAST-CT has it: paths that see the same place at several resolutions.

Kamnitsas and others, Medical Image Analysis 2017; the residual form with scale factors of
Monteiro and others, Lancet Digital Health 2020 (github.com/biomedia-mira/blast-ct).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from models.building.architectures.described import Architecture, Count, Counts, Size
from models.building.architectures.keys import KeyMap
from models.manifest.base import Part

__all__ = ["ARCHITECTURE", "DeepMedic", "DeepMedicArguments"]

# Voxels that an unpadded 3 x 3 x 3 convolution takes from each side.
_RIM = 1


class DeepMedicArguments(Part):
    """What a DeepMedic is made of.

    Attributes:
        patch: the input's size; the sizes of all paths follow from it.
        scale_factors: one path each, coarsest first: every so manieth voxel is looked at.
        feature_maps: one unpadded 3 x 3 x 3 convolution each, the same in every path.
        fully_connected: the 1 x 1 x 1 convolutions before the last.
    """

    input_channels: Count = 1
    classes: Annotated[int, Field(ge=2, le=255)]
    patch: Size = (110, 110, 110)
    scale_factors: Annotated[tuple[Size, ...], Field(min_length=1, strict=False)] = (
        (5, 5, 5),
        (3, 3, 3),
        (1, 1, 1),
    )
    feature_maps: Counts = (30, 30, 40, 40, 40, 40, 50, 50)
    fully_connected: Counts = (250, 250)

    @model_validator(mode="after")
    def _fits(self) -> DeepMedicArguments:
        out = self.output_patch
        needed = self.input_of(self.scale_factors[0], out)
        if min(out) < 1 or needed != self.patch:
            raise ValueError(
                f"a patch of {list(self.patch)} is not one of the network's; the coarsest path "
                f"takes {list(needed)} for {list(out)}"
            )
        return self

    @property
    def output_patch(self) -> tuple[int, int, int]:
        """The size of the scores: what the coarsest path leaves of the patch."""
        rim = 2 * _RIM * len(self.feature_maps)
        sizes = [
            (size // scale - rim) * scale
            for size, scale in zip(self.patch, self.scale_factors[0], strict=True)
        ]
        return (sizes[0], sizes[1], sizes[2])

    def input_of(
        self, scales: tuple[int, int, int], out: tuple[int, int, int]
    ) -> tuple[int, int, int]:
        """Return what a path looks at for an output of size `out`."""
        rim = 2 * _RIM * len(self.feature_maps)
        sizes = [(-(-o // scale) + rim) * scale for o, scale in zip(out, scales, strict=True)]
        return (sizes[0], sizes[1], sizes[2])


class DeepMedic(nn.Module):
    """float32 [n, c, *patch] -> scores float32 [n, classes, *output_patch] (of no activation)."""

    def __init__(self, arguments: DeepMedicArguments) -> None:
        super().__init__()
        self.paths = nn.ModuleList(_Path(arguments, scales) for scales in arguments.scale_factors)
        widths = (
            arguments.feature_maps[-1] * len(arguments.scale_factors),
            *arguments.fully_connected,
            arguments.classes,
        )
        self.fully_connected = nn.Sequential(
            *(_Block(one, other, 1) for one, other in pairwise(widths))
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        seen = torch.cat([path(image) for path in self.paths], dim=1)
        found: torch.Tensor = self.fully_connected(seen)
        return found


class _Path(nn.Module):
    """One resolution: crop to what is needed, sub-sample, convolve, bring back, crop."""

    def __init__(self, arguments: DeepMedicArguments, scales: tuple[int, int, int]) -> None:
        super().__init__()
        out = arguments.output_patch
        looked_at = arguments.input_of(scales, out)
        rim = 2 * _RIM * len(arguments.feature_maps)
        brought_back = tuple(
            (size // scale - rim) * scale for size, scale in zip(looked_at, scales, strict=True)
        )
        self._crop = _centre(arguments.patch, looked_at)
        self._finish = _centre(brought_back, out)
        widths = (arguments.input_channels, *arguments.feature_maps)
        self.path = nn.Sequential(
            _SubSample(scales),
            *(_Block(one, other, 3) for one, other in pairwise(widths)),
            nn.Upsample(scale_factor=tuple(float(scale) for scale in scales), mode="nearest"),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.path(image[self._crop])
        return found[self._finish]


class _SubSample(nn.Module):
    """Every so manieth voxel, from the middle of the first step."""

    def __init__(self, scales: tuple[int, int, int]) -> None:
        super().__init__()
        steps = [slice(scale // 2, None, scale) for scale in scales]
        self._steps = (slice(None), slice(None), *steps)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[self._steps]


class _Block(nn.Module):
    """Normalise, PReLU, convolve without padding; a shortcut where the width stays."""

    def __init__(self, width_in: int, width_out: int, kernel: Literal[1, 3]) -> None:
        super().__init__()
        self.bn = nn.BatchNorm3d(width_in)
        self.prelu = nn.PReLU()
        self.conv = nn.Conv3d(width_in, width_out, kernel, bias=False)
        rim = kernel // 2
        self._inner = (slice(None), slice(None), *[slice(rim, -rim or None)] * 3)
        self._shortcut = width_in == width_out

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv(self.prelu(self.bn(image)))
        return found + image[self._inner] if self._shortcut else found


def _centre(whole: tuple[int, ...], part: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the slices of a part in the middle, halves rounded as the authors do."""
    starts = [size // 2 - wanted // 2 for size, wanted in zip(whole, part, strict=True)]
    inner = [slice(start, start + wanted) for start, wanted in zip(starts, part, strict=True)]
    return (slice(None), slice(None), *inner)


def _published(arguments: DeepMedicArguments) -> KeyMap:
    return KeyMap(
        replace=tuple(
            (f"path{scales}{place}.", f"paths.{place}.")
            for place, scales in enumerate(arguments.scale_factors)
        )
    )


ARCHITECTURE = Architecture(DeepMedicArguments, DeepMedic, _published)

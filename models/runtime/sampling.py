"""Where along each axis a resampled array looks into the array it is made of.

Three conventions are in use. `half-pixel`: both arrays have the same outer edges (scikit-image,
torch with align_corners=False, nnU-Net). `aligned`: both have the same first and last centres
(`scipy.ndimage.zoom`, TotalSegmentator). `spacing`: by distance from given places (SimpleITK,
MONAI).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["AxisSampling", "Centres", "Shape", "between_sizes", "samplings"]

Shape = tuple[int, int, int]

Centres = Literal["half-pixel", "aligned", "spacing"]


@dataclass(frozen=True, slots=True)
class AxisSampling:
    """One axis: `size_out` voxels look at places among `size_in` ones.

    Voxel o looks at (o + 0.5) * scale - 0.5 with half-pixel centres, else at o * scale + shift.
    Each form is computed as the libraries of its convention do, so that ties fall as there.
    """

    size_in: int
    size_out: int
    centres: Centres
    scale: float
    shift: float = 0.0

    @property
    def places(self) -> NDArray[np.float64]:
        """The index, with its fraction, where each output voxel looks."""
        out = np.arange(self.size_out, dtype=np.float64)
        if self.centres == "half-pixel":
            return (out + 0.5) * self.scale - 0.5
        return out * self.scale + self.shift

    @property
    def changes_nothing(self) -> bool:
        """Whether each output voxel looks at the input voxel of its own index."""
        return self.size_in == self.size_out and self.scale == 1.0 and self.shift == 0.0

    @property
    def line(self) -> tuple[float, float]:
        """Scale and shift of the same places written as o * scale + shift."""
        if self.centres == "half-pixel":
            return self.scale, 0.5 * self.scale - 0.5
        return self.scale, self.shift


def samplings(
    shape: Shape, shape_out: Shape, centres: Literal["half-pixel", "aligned"]
) -> tuple[AxisSampling, AxisSampling, AxisSampling]:
    """Return the samplings of a whole array onto a shape.

    An axis of one voxel has no two centres to align: it is sampled with half-pixel centres.
    """
    first, second, third = (
        between_sizes(size, size_out, centres)
        for size, size_out in zip(shape, shape_out, strict=True)
    )
    return first, second, third


def between_sizes(size_in: int, size_out: int, centres: Centres) -> AxisSampling:
    """Return the sampling of one whole axis onto another size; a single voxel has no ends."""
    if centres == "aligned" and size_in > 1 and size_out > 1:
        return AxisSampling(size_in, size_out, "aligned", (size_in - 1) / (size_out - 1))
    return AxisSampling(size_in, size_out, "half-pixel", size_in / size_out)

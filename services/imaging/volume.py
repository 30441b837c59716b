"""The one type for a series' voxels, and the one place where RAS meets LPS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.imaging.errors import ImagingError

Voxels: TypeAlias = NDArray[np.float32 | np.int16 | np.uint16]


@dataclass(frozen=True, slots=True)
class Rescale:
    """From stored to real-world values (PS3.3 C.11.1): stored * slope + intercept."""

    slope: float = 1.0
    intercept: float = 0.0

    def write(self, stored: NDArray[np.integer | np.floating], out: NDArray[np.float32]) -> None:
        """Writes real-world values of `stored` to `out`, of the same shape.

        In double precision, rounded once: each is the nearest float32 of the true value.
        """
        if self == _AS_STORED:
            out[...] = stored
            return
        values = stored * np.float64(self.slope)
        values += self.intercept
        out[...] = values


_AS_STORED = Rescale()


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels on a regular grid in patient space.

    Attributes:
        array: [k, j, i] (slice, row, column), C-contiguous: float32 real-world values, or int16
            or uint16 as stored, which `rescale` makes real-world values of.
        affine: float64 4x4; maps (i, j, k, 1) to the voxel's centre in LPS millimetres.
        instances: the SOP instance UID of each plane k; empty when planes are no images.
        rescale: of stored voxels; float32 voxels are values already.
        padding: bool [k, j, i], where nothing was measured (PS3.3 C.7.5.1.1.2); None where
            everything was. Values are NaN there; stored voxels are as stored.

    Raises:
        ImagingError: shapes or types that do not fit together.
    """

    array: Voxels
    affine: NDArray[np.float64]
    instances: tuple[str, ...] = ()
    rescale: Rescale = _AS_STORED
    padding: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise ImagingError(f"A volume has three axes [k, j, i], not {self.array.ndim}.")
        if self.affine.shape != (4, 4):
            raise ImagingError(f"An affine is 4 x 4, not {self.affine.shape}.")
        if self.instances and len(self.instances) != self.array.shape[0]:
            raise ImagingError(
                f"{len(self.instances)} instances cannot be the planes of a volume of "
                f"{self.array.shape[0]}."
            )
        if self.rescale != _AS_STORED and self.array.dtype == np.float32:
            raise ImagingError(f"Voxels of {self.array.dtype} are values, and not rescaled.")
        if self.padding is not None and self.padding.shape != self.array.shape:
            raise ImagingError(
                f"Padding of shape {self.padding.shape} is none of voxels of {self.array.shape}."
            )

    def values(self) -> NDArray[np.float32]:
        """float32 [k, j, i]: real-world values, NaN where nothing was measured.

        The array itself where it holds values.
        """
        if self.array.dtype == np.float32:
            return self.array.view(np.float32)
        out = np.empty(self.array.shape, np.float32)
        self.write_values(out)
        return out

    def write_values(self, out: NDArray[np.float32]) -> None:
        """Writes the real-world values to `out`, plane by plane: one pass, little memory.

        Args:
            out: float32 [k, j, i], of the volume's shape; NaN where nothing was measured.
        """
        for k, plane in enumerate(out):
            self.write_plane(k, plane)

    def write_plane(self, k: int, out: NDArray[np.float32]) -> None:
        """Writes the real-world values of plane `k` to `out`, float32 [j, i]."""
        self.rescale.write(self.array[k], out)
        if self.padding is not None:
            out[self.padding[k]] = np.nan

    @property
    def voxel_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j and k, in millimetres."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    def corners(self) -> NDArray[np.float64]:
        """Centres of the corner voxels of every plane: float64 [k, 4, 3], LPS mm."""
        slices, rows, columns = self.array.shape
        return plane_corners(self.affine, (slices, rows, columns))


def plane_corners(affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Centres of the four corner voxels of every plane of a grid.

    Args:
        affine: 4x4, (i, j, k, 1) -> LPS mm.
        shape: (slices, rows, columns).

    Returns:
        float64 [k, 4, 3] in LPS mm; the corners in the order (i, j) = (0, 0), (last, 0),
        (0, last), (last, last).
    """
    slices, rows, columns = shape
    corners = [(0, 0), (columns - 1, 0), (0, rows - 1), (columns - 1, rows - 1)]
    indices = np.array([[(i, j, k, 1) for i, j in corners] for k in range(slices)], np.float64)
    return (indices @ affine.T)[..., :3]

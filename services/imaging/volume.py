"""The one type for a series' voxels, and the one place where RAS meets LPS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.imaging.errors import ImagingError

# LPS (DICOM: x to the patient's left, y to the back, z to the head) and RAS (NIfTI: x to the
# right, y to the front) differ in the sign of the first two axes.
_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels on a regular grid in patient space.

    Attributes:
        array: float32 [k, j, i] (slice, row, column), C-contiguous.
        affine: float64 4x4; maps (i, j, k, 1) to the voxel's centre in LPS millimetres.
        instances: the SOP instance UID of each plane k; empty when the volume has no source.

    Raises:
        ImagingError: shapes that do not fit together.
    """

    array: NDArray[np.float32]
    affine: NDArray[np.float64]
    instances: tuple[str, ...] = ()

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


def lps_from_ras(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """An affine into RAS millimetres (NIfTI, PS3.3 has none) as one into LPS millimetres.

    Its own inverse: the same call takes LPS back to RAS.
    """
    return _LPS_RAS @ np.asarray(affine, np.float64)

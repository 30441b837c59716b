"""A role's volume as it was sent, and the values that its stored voxels mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.manifest.tensors import TRITON_DATATYPES
from models.runtime.errors import RequestError

__all__ = ["SourceVolume"]

_DTYPES: Final = tuple(np.dtype(name) for name in TRITON_DATATYPES)


@dataclass(frozen=True, slots=True)
class SourceVolume:
    """Voxels on a regular grid in patient space.

    `voxels`: int16, uint16 or float32 [k, j, i]; `affine_lps`: float64 [4, 4], (i, j, k, 1) to LPS
    millimetres. Values are voxels * slope + intercept; float32 voxels are values, NaN where nothing
    was measured. `frame_of_reference_uid`: volumes of one lie in one space; empty: not known.

    Raises:
        RequestError: voxels that are none, rescaled values, or an affine of another shape.
    """

    voxels: NDArray[Any]
    affine_lps: NDArray[np.float64]
    slope: float = 1.0
    intercept: float = 0.0
    frame_of_reference_uid: str = ""

    def __post_init__(self) -> None:
        voxels = self.voxels
        if self.affine_lps.shape != (4, 4):
            raise RequestError(f"The affine must be 4 x 4 numbers, not {self.affine_lps.tolist()}.")
        if voxels.ndim != 3 or 0 in voxels.shape or voxels.dtype not in _DTYPES:
            raise RequestError(
                f"A volume must be {', '.join(TRITON_DATATYPES)} [k, j, i] without an empty side, "
                f"not {voxels.dtype} {list(voxels.shape)}."
            )
        if not np.isfinite([self.slope, self.intercept]).all() or self.slope == 0:
            raise RequestError(
                f"Slope {self.slope} and intercept {self.intercept} make no values of voxels. "
                "Send the series' own."
            )
        if voxels.dtype == np.float32 and not self._are_values:
            raise RequestError(
                f"float32 voxels are values: slope {self.slope} and intercept {self.intercept} "
                "must be 1 and 0."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @property
    def _are_values(self) -> bool:
        return self.slope == 1.0 and self.intercept == 0.0

    def write_values(self, stored: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Write the values of some of the voxels to `out`, of the same shape.

        In double precision and rounded once, as services.imaging does it: a voxel has the same
        value wherever it is made.
        """
        if self._are_values:
            out[...] = stored
            return
        values = stored * np.float64(self.slope)
        values += self.intercept
        out[...] = values

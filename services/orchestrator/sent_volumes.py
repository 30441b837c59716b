"""How a volume crosses to Triton: as stored where it can, half the bytes of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from axial.v1 import inference_pb2
from numpy.typing import NDArray

from models.manifest import TRITON_DATATYPES, VolumeDtype, volume_tensor_name
from services.imaging import Volume

_DTYPES: dict[VolumeDtype, np.dtype[Any]] = {
    "int16": np.dtype(np.int16),
    "uint16": np.dtype(np.uint16),
    "float32": np.dtype(np.float32),
}


@dataclass(frozen=True, slots=True)
class SentVolume:
    """A volume as one role's input.

    Attributes:
        stored_as: int16 or uint16 as stored, with slope and intercept; float32 values where the
            source has no one meaning of stored values, or where some voxels were not measured:
            only values can say so (NaN).
        frame_of_reference_uid: of the series; empty where none is known.
    """

    role: str
    volume: Volume
    stored_as: VolumeDtype
    frame_of_reference_uid: str = ""

    @property
    def tensor(self) -> str:
        """The tensor that carries the voxels."""
        return volume_tensor_name(self.role, self.stored_as)

    @property
    def datatype(self) -> str:
        """The tensor's type as Triton calls it."""
        return TRITON_DATATYPES[self.stored_as]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a voxel."""
        return _DTYPES[self.stored_as]

    @property
    def shape(self) -> tuple[int, ...]:
        """[k, j, i]"""
        return self.volume.array.shape

    @property
    def nbytes(self) -> int:
        """The size of the tensor in bytes."""
        return self.volume.array.size * self.dtype.itemsize

    def write(self, out: NDArray[Any]) -> None:
        """Writes the voxels to `out`: one pass.

        Args:
            out: of `dtype` and `shape`.
        """
        if self.stored_as == "float32":
            self.volume.write_values(out)
        else:
            np.copyto(out, self.volume.array)

    def voxels(self) -> NDArray[Any]:
        """The voxels as they are sent: the volume's own array where it holds them."""
        return self.volume.values() if self.stored_as == "float32" else self.volume.array

    def message(self) -> inference_pb2.RoleVolume:
        """What the request says of the tensor."""
        stored = self.stored_as != "float32"
        return inference_pb2.RoleVolume(
            role=self.role,
            affine_lps=self.volume.affine.ravel().tolist(),
            dtype=self.stored_as,
            slope=self.volume.rescale.slope if stored else 1.0,
            intercept=self.volume.rescale.intercept if stored else 0.0,
            frame_of_reference_uid=self.frame_of_reference_uid,
            tensor=self.tensor,
        )


def sent(role: str, volume: Volume, frame_of_reference_uid: str = "") -> SentVolume:
    """The volume as sent: in the type of the fewest bytes that still says all.

    Args:
        role: that the volume fills.
        volume: the volume.
        frame_of_reference_uid: of the series; empty where none is known.
    """
    stored_as: VolumeDtype = "float32"
    if volume.padding is None and volume.array.dtype == np.int16:
        stored_as = "int16"
    elif volume.padding is None and volume.array.dtype == np.uint16:
        stored_as = "uint16"
    return SentVolume(role, volume, stored_as, frame_of_reference_uid)

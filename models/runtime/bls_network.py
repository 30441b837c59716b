"""Networks that are Triton models of their own (TensorRT plans), called by BLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlsNetwork"]


class BlsNetwork:
    """One network behind Triton's business logic scripting.

    `call(triton_model, image)` sends float32 [1, 1, x, y, z] to that model and returns its
    uint8 answer of the same shape in host memory; the Triton side gives it, so that this file
    needs no Triton.
    """

    def __init__(
        self,
        name: str,
        triton_model: str,
        shape: tuple[int, int, int],
        precision: str,
        call: Callable[[str, NDArray[np.float32]], NDArray[np.uint8]],
    ) -> None:
        self.name: Final = name
        self.target: Final = "tensorrt"
        self.precision: Final = precision
        self.shape: Final = shape
        self._triton_model: Final = triton_model
        self._call: Final = call
        self._image: NDArray[np.float32] | None = None

    def image(self) -> NDArray[np.float32]:
        """See `DecidingNetwork.image`."""
        if self._image is None:
            self._image = np.empty(self.shape, np.float32)
        return self._image

    def foreground(self) -> NDArray[np.uint8]:
        """See `DecidingNetwork.foreground`."""
        return self._call(self._triton_model, self.image()[None, None])[0, 0]

    def release(self) -> None:
        """See `Network.release`; the plan's memory is Triton's own."""
        self._image = None

"""Networks by PyTorch with autocast: GPU nodes without TensorRT, and the reference of a build.

The only file of the runtime that imports torch; CPU nodes never load it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from models.runtime.errors import NetworkUnavailableError

__all__ = ["TorchNetwork", "TorchScores"]

_DTYPES: Final = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class _Loaded:
    """One TorchScript network on a device; a resource for the life of the process."""

    def __init__(
        self, name: str, module_file: Path, shape: tuple[int, int, int], precision: str, device: str
    ) -> None:
        self.name: Final = name
        self.target: Final = "torch"
        self.precision: Final = precision
        self.shape: Final = shape
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise NetworkUnavailableError(
                f"Network {name} is built for a GPU, and torch sees none. Run the cpu target here."
            )
        try:
            module = torch.jit.load(str(module_file), map_location=device)  # pyright: ignore[reportPrivateImportUsage]
        except (RuntimeError, ValueError) as error:
            raise NetworkUnavailableError(
                f"Network {name}: {module_file} cannot be loaded ({error}). Build it again."
            ) from error
        self._module: Final = module.eval()
        self._device: Final = torch.device(device)
        self._image: NDArray[np.float32] | None = None

    def release(self) -> None:
        """See `Network.release`."""
        self._image = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _run(self, batch: NDArray[np.float32]) -> torch.Tensor:
        lowered = self.precision != "f32"
        with (
            torch.inference_mode(),
            torch.autocast(
                self._device.type,
                dtype=_DTYPES[self.precision] if lowered else None,
                enabled=lowered,
            ),
        ):
            return self._module(torch.from_numpy(batch).to(self._device))


class TorchScores(_Loaded):
    """A network that answers with scores; see `ScoringNetwork`."""

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `ScoringNetwork.scores`."""
        return self._run(batch).float().cpu().numpy()


class TorchNetwork(_Loaded):
    """A network with its decision built in, float32 [1, 1, x, y, z] -> uint8 of the same shape."""

    def image(self) -> NDArray[np.float32]:
        """See `DecidingNetwork.image`."""
        if self._image is None:
            self._image = np.empty(self.shape, np.float32)
        return self._image

    def foreground(self) -> NDArray[np.uint8]:
        """See `DecidingNetwork.foreground`."""
        return self._run(self.image()[None, None])[0, 0].cpu().numpy()

"""nnU-Net's checkpoints: the weights, and the little around them that inference needs.

They are pickles with NumPy scalars in their logs; these and nothing else are allowed beside what
PyTorch holds for harmless.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.building.errors import WeightsError
from models.building.weights.state_dict import load_plain, tensors_of

__all__ = ["NnunetCheckpoint", "read_nnunet_checkpoint"]

_WEIGHTS: Final = "network_weights"
_SCALARS: Final = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")


@dataclass(frozen=True, slots=True)
class NnunetCheckpoint:
    """A checkpoint's part in inference.

    Attributes:
        weights: the network's state dict.
        trainer: the trainer class's name; it tells of mirroring and loss.
        configuration: `3d_fullres` and so on.
        fold: 0..4, or `all`; None where the file does not say.
        mirroring: the axes of the array that were mirrored in training; None: none, or not said.
    """

    weights: Mapping[str, torch.Tensor]
    trainer: str
    configuration: str
    fold: int | str | None
    mirroring: tuple[int, ...] | None


def read_nnunet_checkpoint(file: Path) -> NnunetCheckpoint:
    """Read `checkpoint_final.pth`; WeightsError where it names code or lacks what it should have.

    The plans and the dataset come from their own files (plans.json, dataset.json), not from here.
    """
    content = load_plain(file, _scalars_allowed())
    weights = tensors_of(content, (_WEIGHTS,), file)
    arguments = content.get("init_args")
    if not isinstance(arguments, Mapping) or "trainer_name" not in content:
        raise WeightsError(
            f"{file} has weights, but no trainer_name and init_args as nnU-Net v2 writes them. "
            "Read it as a state dict within network_weights."
        )
    fold = arguments.get("fold")
    axes = content.get("inference_allowed_mirroring_axes")
    return NnunetCheckpoint(
        weights=weights,
        trainer=str(content["trainer_name"]),
        configuration=str(arguments.get("configuration", "")),
        fold=fold if fold is None or isinstance(fold, str) else int(fold),
        mirroring=None if axes is None else tuple(int(axis) for axis in axes),
    )


def _scalars_allowed() -> AbstractContextManager[object]:
    """Allow NumPy's scalars, by the names of NumPy 1 and 2, and how pickles carry their bytes."""
    scalar: Any = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [np.dtype, codecs.encode, (codecs.encode, "_codecs.encode")]
    allowed += [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
    ]
    allowed += [type(np.dtype(kind)) for kind in _SCALARS]
    return torch.serialization.safe_globals(allowed)

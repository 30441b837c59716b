"""The cases of `tests.parity`: what nnunetv2 trained and found, unpacked from the repository."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.runtime.source_volume import SourceVolume
from tests.builders.nnunet_folder import checkpoint_of, write_trained
from tests.parity.nnunet_cases import CASES

__all__ = ["Case", "unpacked"]

_PACKED = Path(__file__).parents[1] / "parity" / "nnunet"
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Case:
    """A trained model's folder, a scan, and what nnU-Net's own predictor finds in it.

    `labels`: uint8 [k, j, i]; `labels_single`: what they would be if nnU-Net added up its tiles in
    single precision.
    """

    folder: Path
    scan: SourceVolume
    labels: NDArray[np.uint8]
    labels_single: NDArray[np.uint8]


def unpacked(name: str, into: Path) -> Case:
    """Write a case's folder as nnU-Net had it."""
    case = CASES[name]
    with np.load(_PACKED / f"{name}.npz") as packed:
        content: dict[str, NDArray[Any]] = {key: packed[key] for key in packed.files}
    names: dict[str, str] = json.loads(str(content["names"]))
    folder = write_trained(
        into / f"{case.trainer}__nnUNetPlans__{case.configuration}",
        case.plans,
        case.dataset,
        [
            checkpoint_of(
                _state(content, names, fold),
                case.configuration,
                fold,
                case.trainer,
                case.mirroring,
            )
            for fold in range(case.folds)
        ],
    )
    scan = SourceVolume(content["scan"], _TO_LPS @ content["affine_ras"])
    return Case(folder, scan, content["labels"], content["labels_single"])


def _state(
    content: dict[str, NDArray[Any]], names: dict[str, str], fold: int
) -> dict[str, torch.Tensor]:
    """The state dict, in which a variable stands under each of its names."""
    once = {
        name: torch.from_numpy(content[f"{fold}/{name}"].astype(np.float32))
        for name in set(names.values())
    }
    return {name: once[first] for name, first in names.items()}

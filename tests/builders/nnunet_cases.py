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
from tests.parity.nnunet_cases import CASES, PARTS, TrainedCase

__all__ = ["Case", "PartsCase", "unpacked", "unpacked_parts"]

_PACKED = Path(__file__).parents[1] / "parity" / "nnunet"
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class Case:
    """A trained model's folder, a scan, and what nnU-Net's own predictor finds in it.

    `labels`: uint8 [k, j, i]; `labels_single`: what they would be if nnU-Net added up its tiles in
    single precision; `further`: the scan's further channels.
    """

    folder: Path
    scan: SourceVolume
    labels: NDArray[np.uint8]
    labels_single: NDArray[np.uint8]
    further: tuple[SourceVolume, ...] = ()


@dataclass(frozen=True, slots=True)
class PartsCase:
    """Part-models of one whole, a scan, and what TotalSegmentator makes of it; as `Case`."""

    folders: tuple[Path, ...]
    scan: SourceVolume
    labels: NDArray[np.uint8]
    labels_single: NDArray[np.uint8]


def unpacked(name: str, into: Path) -> Case:
    """Write a case's folder as nnU-Net had it."""
    case, content = CASES[name], _content(name)
    folder = _written(case, content, range(case.folds), into)
    further = tuple(_scan(content, f"scan_{place}") for place in range(1, 1 + len(case.further)))
    return Case(folder, _scan(content), content["labels"], content["labels_single"], further)


def unpacked_parts(into: Path) -> PartsCase:
    """Write the parts' folders as TotalSegmentator's releases have them unpacked."""
    content = _content("totalsegmentator-parts")
    folders = tuple(
        _written(case, content, range(place, place + 1), into / f"Dataset{901 + place}").parent
        for place, case in enumerate(PARTS)
    )
    return PartsCase(folders, _scan(content), content["labels"], content["labels_single"])


def _content(name: str) -> dict[str, NDArray[Any]]:
    with np.load(_PACKED / f"{name}.npz") as packed:
        return {key: packed[key] for key in packed.files}


def _scan(content: dict[str, NDArray[Any]], name: str = "scan") -> SourceVolume:
    return SourceVolume(content[name], _TO_LPS @ content["affine_ras"])


def _written(
    case: TrainedCase, content: dict[str, NDArray[Any]], networks: range, into: Path
) -> Path:
    """A trained model's folder, with the weights of some of the networks as its folds."""
    names: dict[str, str] = json.loads(str(content["names"]))
    checkpoints = [
        checkpoint_of(
            _state(content, names, network), case.configuration, fold, case.trainer, case.mirroring
        )
        for fold, network in enumerate(networks)
    ]
    folder = into / f"{case.trainer}__nnUNetPlans__{case.configuration}"
    return write_trained(folder, case.plans, case.dataset, checkpoints)


def _state(
    content: dict[str, NDArray[Any]], names: dict[str, str], fold: int
) -> dict[str, torch.Tensor]:
    """The state dict, in which a variable stands under each of its names."""
    once = {
        name: torch.from_numpy(content[f"{fold}/{name}"].astype(np.float32))
        for name in set(names.values())
    }
    return {name: once[first] for name, first in names.items()}

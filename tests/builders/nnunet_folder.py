"""Folders of trained models as nnU-Net v2 leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["checkpoint_of", "write_trained"]


def checkpoint_of(
    weights: Mapping[str, torch.Tensor],
    configuration: str,
    fold: int | str,
    trainer: str = "nnUNetTrainer",
    mirroring: tuple[int, ...] | None = (0, 1, 2),
) -> dict[str, Any]:
    """What a checkpoint holds: weights, what inference asks for, and logs with NumPy's numbers."""
    return {
        "network_weights": dict(weights),
        "optimizer_state": {"state": {}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.75)], "lrs": [0.01]},
        "_best_ema": np.float64(0.8),
        "current_epoch": 1000,
        "init_args": {"configuration": configuration, "fold": fold, "plans": {}},
        "trainer_name": trainer,
        "inference_allowed_mirroring_axes": mirroring,
    }


def write_trained(
    folder: Path,
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    checkpoints: Sequence[Mapping[str, Any]],
) -> Path:
    """Write plans.json, dataset.json and a folder for each fold; returns the folder."""
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    for checkpoint in checkpoints:
        fold = folder / f"fold_{checkpoint['init_args']['fold']}"
        fold.mkdir()
        torch.save(dict(checkpoint), fold / "checkpoint_final.pth")
    return folder

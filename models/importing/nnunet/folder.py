"""The folder of a trained model, as nnU-Net v2 leaves it: which folds, and what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.building.weights import NnunetCheckpoint, read_nnunet_checkpoint
from models.importing.errors import NotImportableError
from models.importing.nnunet.published import Dataset, Plans, read_dataset, read_plans

__all__ = ["Trained", "read_checkpoint", "read_trained"]

_FOLD: Final = re.compile(r"^fold_(\d+)$")
_ALL: Final = "fold_all"
CHECKPOINT: Final = "checkpoint_final.pth"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model.

    Attributes:
        folder: that holds plans.json.
        plans: of the training.
        dataset: of the training.
        checkpoints: the files, by the folds' names.
        postprocessed: a file that says what is done with the labels afterwards, if there is one.
    """

    folder: Path
    plans: Plans
    dataset: Dataset
    checkpoints: dict[str, Path]
    postprocessed: Path | None


def read_trained(folder: Path, folds: tuple[str, ...], checkpoint: str = CHECKPOINT) -> Trained:
    """Read a trained model's folder, without the weights.

    Args:
        folder: that holds plans.json, or a data set's folder with one such.
        folds: "0", "all" and so on; empty: every numbered one, else `all`.
        checkpoint: which file of a fold.

    Raises:
        NotImportableError: it is no such folder, or a fold is missing.
    """
    folder = _with_plans(folder)
    found = {
        child.name.removeprefix("fold_"): child / checkpoint
        for child in sorted(folder.iterdir())
        if (_FOLD.match(child.name) or child.name == _ALL) and (child / checkpoint).is_file()
    }
    wanted = folds or tuple(name for name in found if name != "all") or tuple(found)
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise NotImportableError(
            f"{folder} has no {checkpoint} of fold {', '.join(missing) or '0'}. It has "
            f"{', '.join(found) or 'none'}; name those with --fold, another file with --checkpoint."
        )
    post = sorted(folder.rglob("postprocessing.pkl"))
    return Trained(
        folder,
        read_plans(folder / "plans.json"),
        read_dataset(folder / "dataset.json"),
        {name: found[name] for name in wanted},
        post[0] if post else None,
    )


def read_checkpoint(trained: Trained, fold: str) -> NnunetCheckpoint:
    """Read a fold's checkpoint; WeightsError where it names code or is none."""
    return read_nnunet_checkpoint(trained.checkpoints[fold])


def _with_plans(folder: Path) -> Path:
    if (folder / "plans.json").is_file():
        return folder
    # In a data set's folder, or in a zip file that holds one.
    found = [*folder.glob("*/plans.json"), *folder.glob("*/*/plans.json")]
    below = sorted(file.parent for file in found)
    if len(below) == 1:
        return below[0]
    what = f"several: {', '.join(one.name for one in below)}" if below else "none"
    raise NotImportableError(
        f"{folder} is no trained model's folder: plans.json is wanted in it, beside dataset.json "
        f"and fold_0 and so on; below it there are {what}. Name one of the kind "
        "nnUNetTrainer__nnUNetPlans__3d_fullres."
    )

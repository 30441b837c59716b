"""What a person says when a model is imported, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Imported", "Said", "ToReview"]


@dataclass(frozen=True, slots=True)
class Said:
    """What published files do not say, or a person says otherwise; empty: as they have it.

    Attributes:
        name: of the model, and of its folder.
        into: the folder of models that it comes into.
        folds: which of the trained networks; empty: all.
        checkpoint: the file of weights; empty: as the system calls it.
        codes: a file with the segments' codes.
        modality: the DICOM modality of the series.
        axes: how the training files lie.
        case: a NIfTI scan that shows what the model segments, for comparing builds.
        licence: of the weights.
        manufacturer: who trained them.
        trainer_like: a trainer of nnU-Net that infers as this model's does.
        step: from one tile to the next, as a share of the tile.
        mirror: whether the network is shown mirrored images, where it was trained with such.
    """

    name: str
    into: Path
    folds: tuple[str, ...] = ()
    checkpoint: str = ""
    codes: Path | None = None
    modality: str = ""
    axes: str = ""
    case: Path | None = None
    licence: str = ""
    manufacturer: str = ""
    trainer_like: str = ""
    step: float = 0.5
    mirror: bool = True


@dataclass(frozen=True, slots=True)
class ToReview:
    """A field of the manifest that a person must look at before the model is served, and why."""

    field: str
    why: str


@dataclass(frozen=True, slots=True)
class Imported:
    """A model's folder that was written, and what is left to do."""

    folder: Path
    to_review: tuple[ToReview, ...]

"""The checkpoints of a training as files beside a manifest, and as its networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.building.converting import save_as_safetensors
from models.building.errors import BuildError
from models.building.weights import NnunetCheckpoint
from models.importing.assembling import Pinned
from models.importing.errors import NotImportableError
from models.importing.nnunet.folder import Trained, read_checkpoint
from models.importing.nnunet.published import Configuration
from models.importing.publishing import pinned
from models.manifest.networks import ArchitectureOf

__all__ = ["convert_folds", "network_name", "networks_of"]


def network_name(fold: str, part: str = "") -> str:
    """Return what a manifest calls a fold's network; `part`: of a model of several trainings."""
    return f"{part}-fold-{fold}" if part else f"fold-{fold}"


def convert_folds(
    trained: Trained,
    first: NnunetCheckpoint,
    architecture: ArchitectureOf,
    made: Path,
    report: Callable[[str], None],
    part: str = "",
) -> dict[str, Pinned]:
    """Write the weights of every fold beside the manifest; returns them by network, pinned.

    Args:
        trained: the training.
        first: the checkpoint of its first fold, which is read already.
        architecture: the network of its plans.
        made: the model's folder.
        report: told of each fold.
        part: as for `network_name`.

    Raises:
        NotImportableError: folds of different trainings, or weights of another network.
    """
    files: dict[str, Pinned] = {}
    for place, (fold, file) in enumerate(trained.checkpoints.items()):
        checkpoint = first if place == 0 else read_checkpoint(trained, fold)
        if (checkpoint.trainer, checkpoint.configuration) != (first.trainer, first.configuration):
            raise NotImportableError(
                f"{file} is of {checkpoint.trainer} {checkpoint.configuration}, and the fold "
                f"before of {first.trainer} {first.configuration}. Folds of one training belong "
                "together."
            )
        name = network_name(fold, part)
        report(f"converting {name}")
        try:
            save_as_safetensors(architecture, checkpoint.weights, made / f"{name}.safetensors")
        except BuildError as error:
            raise NotImportableError(f"{file}: {error}") from error
        files[name] = pinned(made, made / f"{name}.safetensors")
    return files


def networks_of(
    files: dict[str, Pinned], architecture: ArchitectureOf, plan: Configuration, heads: int
) -> dict[str, dict[str, Any]]:
    """Return the networks of a training as a manifest has them, one a file.

    Args:
        files: the weights, by network.
        architecture: that all share.
        plan: the configuration.
        heads: scores of a voxel.
    """
    described = architecture.model_dump()
    channels = int(architecture.arguments["input_channels"])
    several = {"channels": channels} if channels > 1 else {}
    patch = list(plan.patch_size)
    return {
        name: {
            "weights": {"source": "beside", "path": file["path"], "format": "safetensors"},
            "architecture": described,
            **several,
            # A network of planes takes volumes of one plane.
            "patch": [1] * (3 - len(patch)) + patch,
            "classes": heads,
        }
        for name, file in files.items()
    }

"""Files of a single network, carried into a model's folder, and what they say of themselves."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.building.architectures.meshnet_layers import meshnet_of
from models.building.errors import BuildError
from models.building.weights import answer_of, read_tfjs_layers
from models.importing.errors import NotImportableError
from models.importing.publishing import pinned

__all__ = ["Carried", "carried_layers", "carried_torchscript", "named_beside"]

_COLOURS: Final = "colormap.json"


@dataclass(frozen=True, slots=True)
class Carried:
    """A network's files in a model's folder.

    Attributes:
        kind: what it is, for a description.
        files: as the manifest pins them.
        weights: as the manifest's network names them.
        architecture: which network they are of; None: they hold their own.
        scores: of each voxel.
    """

    kind: str
    files: list[dict[str, str | int]]
    weights: dict[str, Any]
    architecture: dict[str, Any] | None
    scores: int


def carried_torchscript(file: Path, folder: Path, patch: tuple[int, int, int]) -> Carried:
    """Carry a TorchScript archive, and ask it for the scores of an empty patch.

    Raises:
        NotImportableError: it is no archive, takes no such patch, or answers with something else.
    """
    try:
        answer = answer_of(file, patch)
    except BuildError as error:
        raise NotImportableError(str(error)) from error
    if answer[2:] != patch:
        raise NotImportableError(
            f"{file} answers a patch of {list(patch)} with {list(answer[2:])} voxels. "
            "Correct --patch; a network that loses a margin is said by hand."
        )
    there = folder / "network.ts"
    shutil.copyfile(file, there)
    weights = {"source": "beside", "path": there.name, "format": "torchscript"}
    return Carried("A TorchScript network", [pinned(folder, there)], weights, None, answer[1])


def carried_layers(file: Path, folder: Path) -> Carried:
    """Carry TensorFlow.js layers: `model.json` and its files of arrays.

    A MeshNet takes any patch; what it is made of stands in the file.

    Raises:
        NotImportableError: the files cannot be read, or are no MeshNet of one channel.
    """
    try:
        layers = read_tfjs_layers(file)
        arguments, _ = meshnet_of(layers)
    except BuildError as error:
        raise NotImportableError(str(error)) from error
    if arguments["input_channels"] != 1:
        raise NotImportableError(
            f"{file} takes {arguments['input_channels']} channels, and one role is imported. Write "
            "the manifest by hand."
        )
    names = (file.name, *layers.parts)
    for name in names:
        shutil.copyfile(file.with_name(name), folder / name)
    weights = {
        "source": "beside",
        "path": file.name,
        "beside": list(layers.parts),
        "format": "tfjs-layers",
    }
    architecture = {"name": "meshnet", "arguments": arguments}
    files = [pinned(folder, folder / name) for name in names]
    return Carried("A MeshNet", files, weights, architecture, int(arguments["classes"]))


def named_beside(file: Path) -> tuple[str, ...]:
    """Return the names of the classes that lie beside a network, without the first, background.

    Raises:
        NotImportableError: nothing beside it names them.
    """
    colours = file.with_name(_COLOURS)
    try:
        named = json.loads(colours.read_text(encoding="utf-8"))["labels"]
    except (OSError, ValueError, KeyError, TypeError):
        named = None
    if not isinstance(named, list) or not all(isinstance(one, str) and one for one in named):
        raise NotImportableError(
            f"Nothing beside {file} names its classes. Name each with --class, in their order, "
            "without the background."
        )
    return tuple(named[1:])

"""A bundle's folder: metadata, inference configuration and weights, by MONAI's own names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.importing.errors import NotImportableError
from models.importing.monai.configuration import Configuration, read_configuration

__all__ = ["Bundle", "Metadata", "read_bundle"]

_INFERENCE: Final = ("inference.json", "inference.yaml", "inference.yml")
_WEIGHTS: Final = "models/model.pt"
_ELSEWHERE: Final = ("large_files.yml", "large_files.yaml", "large_files.json")


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Tensor(_Lenient):
    """What goes into a network, or comes out."""

    modality: str = ""
    num_channels: int = 1
    channel_def: dict[str, str] = Field(default_factory=dict[str, str])


class _DataFormat(_Lenient):
    inputs: dict[str, Tensor] = Field(default_factory=dict[str, Tensor])
    outputs: dict[str, Tensor] = Field(default_factory=dict[str, Tensor])


class Metadata(_Lenient):
    """configs/metadata.json, as far as it is of use here."""

    name: str = ""
    version: str = ""
    description: str = ""
    authors: str = ""
    copyright: str = ""
    monai_version: str = ""
    references: list[str] = Field(default_factory=list[str])
    network_data_format: _DataFormat = _DataFormat()


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a folder holds.

    Attributes:
        image: what goes into the network, and what transforms call it.
        answer: what comes out of it, and what transforms call it.
        weights: the file.
    """

    folder: Path
    metadata: Metadata
    configuration: Configuration
    image: Tensor
    image_key: str
    answer: Tensor
    weights: Path


def read_bundle(folder: Path, weights: str) -> Bundle:
    """Read a bundle's folder.

    Args:
        folder: holds `configs` and `models`, or one folder that does.
        weights: the file of weights below it; empty: models/model.pt.

    Raises:
        NotImportableError: it is no bundle, or one of several images.
    """
    root = _root(folder)
    metadata = _metadata(root / "configs" / "metadata.json")
    file = next(
        (root / "configs" / name for name in _INFERENCE if (root / "configs" / name).is_file()),
        None,
    )
    if file is None:
        raise NotImportableError(f"{root}/configs holds none of {', '.join(_INFERENCE)}.")
    inputs = metadata.network_data_format.inputs
    outputs = metadata.network_data_format.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise NotImportableError(
            f"{root}/configs/metadata.json: network_data_format has {len(inputs)} inputs and "
            f"{len(outputs)} outputs; networks of one image and one answer are imported."
        )
    ((key, image),) = inputs.items()
    (answer,) = outputs.values()
    if image.num_channels != 1:
        raise NotImportableError(
            f"{root}/configs/metadata.json: the network takes {image.num_channels} channels "
            f"({', '.join(image.channel_def.values())}), which are as many series. Say it as a "
            "plan by hand, with a role for each (axial models new, recipe glioma)."
        )
    return Bundle(
        root,
        metadata,
        read_configuration(file),
        image,
        key,
        answer,
        _weights_of(root, weights or _WEIGHTS),
    )


def _root(folder: Path) -> Path:
    for root in (folder, *sorted(one for one in folder.iterdir() if one.is_dir())):
        if (root / "configs" / "metadata.json").is_file():
            return root
    raise NotImportableError(
        f"{folder} is no bundle of MONAI: it holds no configs/metadata.json. Name the folder, or "
        "its zip file."
    )


def _metadata(file: Path) -> Metadata:
    try:
        return Metadata.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, ValidationError) as error:
        raise NotImportableError(f"{file} cannot be read ({error}).") from error


def _weights_of(root: Path, name: str) -> Path:
    file = root / name
    if file.resolve().is_relative_to(root.resolve()) and file.is_file():
        return file
    listed = next((one for one in _ELSEWHERE if (root / one).is_file()), None)
    remedy = (
        f"{listed} says where it is fetched from: fetch it, compare its hash, and put it there."
        if listed
        else "Name another with --checkpoint."
    )
    raise NotImportableError(f"{root} holds no {name}. {remedy}")

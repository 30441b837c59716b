"""Networks as data: where their weights are from, what they take and give, in which precision.

What is done around them is the plan's matter (`models.manifest.plan`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from models.manifest.base import Name, Part, Sha256
from models.manifest.plan import NetworkFacts

__all__ = [
    "ArchitectureOf",
    "FolderFiles",
    "GitFiles",
    "Network",
    "Precision",
    "Precisions",
    "PypiWheel",
    "Source",
    "SourceFile",
    "Target",
    "Weights",
]

Shape = Annotated[
    tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]],
    Field(strict=False),
]
_Lost = Annotated[int, Field(ge=0)]
Margin = Annotated[tuple[_Lost, _Lost, _Lost], Field(strict=False)]


class Target(StrEnum):
    """Where a built network runs."""

    CPU = "cpu"
    TENSORRT = "tensorrt"
    TORCH = "torch"


class Precision(StrEnum):
    """The number format of a network's inner arithmetic."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


class SourceFile(Part):
    """A file inside a source, by its path there."""

    path: Annotated[str, Field(min_length=1)]
    bytes: Annotated[int, Field(ge=1)]
    sha256: Sha256


class _Files(Part):
    """What every source has: terms, and the files that are read of it."""

    licence: Annotated[str, Field(min_length=1)]
    copyright: str = ""
    files: Annotated[tuple[SourceFile, ...], Field(min_length=1, strict=False)]

    @field_validator("files")
    @classmethod
    def _files_are_named_once(cls, files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
        paths = [file.path for file in files]
        if len(set(paths)) != len(paths):
            raise ValueError("a file stands twice under files")
        return files


class PypiWheel(_Files):
    """A wheel on the Python Package Index that carries files of the model."""

    kind: Literal["pypi-wheel"]
    package: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9.!+_-]+$")]
    wheel: Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]+\.whl$")]
    sha256: Sha256

    @model_validator(mode="after")
    def _wheel_is_of_the_package(self) -> PypiWheel:
        # <distribution>-<version>-...: PEP 427, names as PEP 503 makes them alike.
        distribution, version = self.wheel.split("-")[:2] if "-" in self.wheel else (self.wheel, "")
        if (_alike(distribution), version) != (_alike(self.package), self.version):
            raise ValueError(
                f"the wheel {self.wheel} is not of {self.package} {self.version}, as its name says"
            )
        return self


class GitFiles(_Files):
    """Files of a public GitHub repository at one commit, by their paths there."""

    kind: Literal["git-file"]
    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class FolderFiles(_Files):
    """Files that lie beside the manifest, in the model's own folder, by their paths there."""

    kind: Literal["folder"]

    @field_validator("files")
    @classmethod
    def _paths_stay_in_the_folder(cls, files: tuple[SourceFile, ...]) -> tuple[SourceFile, ...]:
        for file in files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise ValueError(
                    f"{file.path} does not stay in the model's folder: write a path below it"
                )
        return files


Source = Annotated[PypiWheel | GitFiles | FolderFiles, Field(discriminator="kind")]


def _alike(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


class Weights(Part):
    """Which file of which source a network is read from.

    `beside`: further files of the source that it is read with: the arrays of a TensorFlow
    checkpoint whose index `path` is, or of a TensorFlow.js model. `scope`: what the names of the
    network's variables begin with in the checkpoint.
    """

    source: Name
    path: Annotated[str, Field(min_length=1)]
    format: Literal[
        "torchscript", "state-dict", "safetensors", "tensorflow-checkpoint", "tfjs-layers"
    ]
    beside: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)] = ()
    scope: str = ""

    @model_validator(mode="after")
    def _several_files_or_one(self) -> Weights:
        if (self.format in ("tensorflow-checkpoint", "tfjs-layers")) != bool(self.beside):
            raise ValueError(
                "`beside` names the files of arrays of a tensorflow-checkpoint and of tfjs-layers; "
                "other formats have none"
            )
        if self.scope and self.format != "tensorflow-checkpoint":
            raise ValueError("`scope` is of a tensorflow-checkpoint")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file that the network is read from, the first one first."""
        return (self.path, *self.beside)


class ArchitectureOf(Part):
    """The network that weights without a graph belong to: by name, with its arguments.

    Which names there are, and which arguments each takes, the builder knows
    (`models.building.architectures`).
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    arguments: dict[str, Any] = Field(default_factory=dict)


class Network(Part):
    """One network: float32 [n, channels, *patch] in, one score a class and voxel out.

    `patch`: voxels along each array axis that it is built for. `margin`: voxels that its answer is
    smaller by on each side, where its convolutions are not padded. `classes`: channels of its
    output.
    """

    weights: Weights
    architecture: ArchitectureOf | None = None
    channels: Annotated[int, Field(ge=1)] = 1
    patch: Shape
    margin: Margin = (0, 0, 0)
    classes: Annotated[int, Field(ge=1)]

    @property
    def facts(self) -> NetworkFacts:
        """What a plan depends on."""
        return NetworkFacts(self.channels, self.patch, self.margin, self.classes)

    @model_validator(mode="after")
    def _weights_have_a_graph(self) -> Network:
        if (self.weights.format == "torchscript") != (self.architecture is None):
            raise ValueError(
                "`architecture` says which network weights are of; a torchscript holds its own"
            )
        return self

    @model_validator(mode="after")
    def _something_is_left(self) -> Network:
        if any(2 * lost >= side for lost, side in zip(self.margin, self.patch, strict=True)):
            raise ValueError(f"the margin {self.margin} leaves nothing of the patch {self.patch}")
        return self


class Precisions(Part):
    """Per target the precisions that may be built, in order of preference.

    The first that the building machine's device confirms is taken; the build record and the
    digest name it, so two builds with different precisions are never taken for each other.
    """

    cpu: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]
    tensorrt: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]
    torch: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(min_length=1, strict=False)
    ]

    def of(self, target: Target) -> tuple[Precision, ...]:
        """Return the precisions of one target, most preferred first."""
        return {Target.CPU: self.cpu, Target.TENSORRT: self.tensorrt, Target.TORCH: self.torch}[
            target
        ]

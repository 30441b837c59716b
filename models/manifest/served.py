"""Which builds the builder wants served: a small file a model, beside the Triton repository.

<output>/<target>/repository/<name>--<digest12>/   one build, immutable under its digest
<output>/<target>/served/<name>.json               which of them is to be served

A file appears whole or not at all. Whoever serves reads them again and again while others build,
so that one that is broken is told, and costs the other models nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.manifest.errors import ModelError
from models.manifest.networks import Target
from models.manifest.record import load_build_record
from models.manifest.tensors import triton_model_name

__all__ = [
    "SERVED_SCHEMA",
    "ServedBuild",
    "UnreadableServed",
    "build_folder",
    "repository_folder",
    "served_builds",
    "served_file",
]

SERVED_SCHEMA: Final = "axial.served/v1"


@dataclass(frozen=True, slots=True)
class ServedBuild:
    """A build that is to be served.

    `folder` is the Triton model's, with record and manifest; `built_at` and `requested_at` (when
    somebody last asked to serve the build) are ISO 8601 with offset, empty where the file does not
    say.
    """

    model: str
    digest: str
    version: str
    precision: str
    built_at: str
    requested_at: str
    folder: Path

    @property
    def triton_name(self) -> str:
        """The build's name in Triton."""
        return triton_model_name(self.model, self.digest)


@dataclass(frozen=True, slots=True)
class UnreadableServed:
    """A file that should name a served build and does not: which file, and why not."""

    file: Path
    problem: str

    @property
    def model(self) -> str:
        """The model that the file is about, by the file's name."""
        return self.file.stem


def repository_folder(output_root: Path, target: Target | str) -> Path:
    """Return the Triton repository of a target."""
    return output_root / Target(target).value / "repository"


def build_folder(output_root: Path, target: Target | str, model: str, digest: str) -> Path:
    """Return where a build of a model lies, or would."""
    return repository_folder(output_root, target) / triton_model_name(model, digest)


def served_file(output_root: Path, target: Target | str, model: str) -> Path:
    """Return the file that says which build of a model is to be served."""
    return output_root / Target(target).value / "served" / f"{model}.json"


def served_builds(
    output_root: Path, target: Target | str
) -> tuple[ServedBuild | UnreadableServed, ...]:
    """Read what is to be served of a target, by model's name; nothing where nothing was built.

    Keys that are not known are passed over. A file that cannot be read, or whose build is not in
    the repository, is an `UnreadableServed`.
    """
    folder = served_file(output_root, target, "any").parent
    return tuple(
        _read(file, output_root, Target(target))
        for file in sorted(folder.glob("*.json"))
        if not file.name.startswith(".")
    )


def _read(file: Path, output_root: Path, target: Target) -> ServedBuild | UnreadableServed:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        digest = content["digest"]
        folder = build_folder(output_root, target, file.stem, digest)
        found = load_build_record(folder)
    except ModelError as error:
        return UnreadableServed(file, f"its build cannot be served: {error}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"is not a {SERVED_SCHEMA} file ({type(error).__name__}: {error})."
        return UnreadableServed(file, f"{problem} Build the model again.")
    if found.digest != digest or found.model != file.stem:
        problem = f"wants {digest}, and {folder} holds {found.model} {found.digest}."
        return UnreadableServed(file, f"{problem} Build the model again.")
    return ServedBuild(
        model=found.model,
        digest=found.digest,
        version=str(content.get("version", found.version)),
        precision=str(content.get("precision", found.precision.value)),
        built_at=str(content.get("built_at", found.built_at)),
        requested_at=str(content.get("requested_at", "")),
        folder=folder,
    )

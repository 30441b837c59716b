"""The build record: what a build made, from what, and how it was found to hold.

Written by `models.building` beside the Triton model, read by whoever has to know which build is
being served (its digest and precision) without importing the build's tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from models.manifest.base import Name, Part, Sha256
from models.manifest.errors import ModelError
from models.manifest.networks import Precision, Target

__all__ = ["BUILD_RECORD_FILE", "BuildRecord", "BuiltFile", "Parity", "load_build_record"]

BUILD_RECORD_FILE: Final = "build-record.json"


class Parity(Part):
    """A build compared with the trained networks on one whole head, in source voxels."""

    precision: Annotated[Precision, Field(strict=False)]
    head_sha256: Sha256
    dice: float
    differing_voxels: int
    reference_voxels: int
    accepted: bool


class BuiltFile(Part):
    """One file of the built Triton model, by its path below the model's folder."""

    path: str
    bytes: int
    sha256: Sha256


class BuildRecord(Part):
    """One build of one model for one target."""

    schema_: Annotated[Literal["axial.build/v1"], Field(alias="schema")] = "axial.build/v1"
    model: Name
    version: str
    digest: Sha256
    target: Annotated[Target, Field(strict=False)]
    precision: Annotated[Precision, Field(strict=False)]
    # Of everything that the build depends on, also tools; a build with another key is stale.
    build_key: Sha256
    parity: Annotated[tuple[Parity, ...], Field(strict=False)]
    # What the manifest prefers to the precision built, and this device does not confirm.
    unconfirmed: Annotated[
        tuple[Annotated[Precision, Field(strict=False)], ...], Field(strict=False)
    ] = ()
    versions: dict[str, str]
    built_at: str
    seconds: float
    files: Annotated[tuple[BuiltFile, ...], Field(strict=False)]


def load_build_record(model_folder: Path) -> BuildRecord:
    """Read the record of a built Triton model.

    Raises:
        ModelError: there is no record, or the record is broken.
    """
    file = model_folder / BUILD_RECORD_FILE
    try:
        return BuildRecord.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error}). Build the model.") from error
    except ValidationError as error:
        raise ModelError(f"{file}: not a build record ({error}). Build the model anew.") from error

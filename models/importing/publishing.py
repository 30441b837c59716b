"""A model's folder, written whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from models.building.wheels import file_sha256
from models.importing.errors import NotImportableError
from models.manifest import ManifestError, lint_manifest
from models.manifest.base import Name
from models.manifest.loading import MANIFEST_FILE

__all__ = ["model_folder", "pinned", "write_manifest"]

_NAMES: Final[TypeAdapter[str]] = TypeAdapter(Name)


@contextmanager
def model_folder(into: Path, name: str) -> Generator[Path]:
    """Give a folder to fill, which becomes `into/name` when nothing failed.

    Raises:
        NotImportableError: the name is none, or is there already.
    """
    try:
        _NAMES.validate_python(name)
    except ValidationError as error:
        raise NotImportableError(
            f"{name} is no name of a model: write small letters, digits and single hyphens, as "
            "liver-ct."
        ) from error
    final = into / name
    if final.exists():
        raise NotImportableError(
            f"{final} is there already. Choose another name, or move that folder away: a model "
            "is never written over."
        )
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=into) as work:
        folder = Path(work) / name
        folder.mkdir()
        yield folder
        folder.rename(final)


def write_manifest(folder: Path, text: str) -> None:
    """Write a manifest and lint it as it will be read.

    Raises:
        NotImportableError: it says something that cannot be built or run.
    """
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")
    try:
        lint_manifest(folder)
    except ManifestError as error:
        raise NotImportableError(
            f"What this model needs is refused. {error.field}: {error.problem} {error.remedy}"
        ) from error


def pinned(folder: Path, file: Path) -> dict[str, str | int]:
    """Return a file of a model's folder as its manifest pins it."""
    return {
        "path": file.relative_to(folder).as_posix(),
        "bytes": file.stat().st_size,
        "sha256": file_sha256(file),
    }

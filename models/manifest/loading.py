"""Reading manifests and catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from models.manifest.document import Document, parse_document, read_document
from models.manifest.errors import ManifestError
from models.manifest.networks import Precision, Target
from models.manifest.schema import SCHEMA, Manifest

__all__ = [
    "MANIFEST_FILE",
    "load_catalogue",
    "load_manifest",
    "load_manifest_text",
    "manifest_digest",
    "manifest_file",
    "manifest_schema",
]

MANIFEST_FILE: Final = "model.yaml"


def manifest_file(path: Path) -> Path:
    """Return the file of a manifest that is named by itself or by the model's folder."""
    return path / MANIFEST_FILE if path.is_dir() else path


def load_manifest(path: Path) -> Manifest:
    """Read one manifest: a `model.yaml`, or the model's folder.

    Raises:
        ManifestError: names file, line, field and remedy of the first thing wrong.
    """
    file = manifest_file(path)
    document = read_document(file)
    manifest = _validated(document, file)
    if file.name == MANIFEST_FILE and file.parent.name != manifest.name:
        raise ManifestError(
            file,
            f"the model is named {manifest.name}, but its folder {file.parent.name}.",
            "Give both the same name.",
            line=document.line_of(("identity", "name"))[0],
            field="identity.name",
        )
    return manifest


def load_manifest_text(text: str, name_of_source: str) -> Manifest:
    """Read a manifest that lies in no folder, e.g. in the study store.

    Args:
        text: the manifest.
        name_of_source: stands for the file in messages.

    Raises:
        ManifestError: names line, field and remedy of the first thing wrong.
    """
    return _validated(parse_document(text, name_of_source), name_of_source)


def load_catalogue(folder: Path) -> list[Manifest]:
    """Read the manifests of every model folder below `folder`, sorted by name.

    A folder without a `model.yaml` is an error rather than a model that silently is not there.

    Raises:
        ManifestError: there is no such folder, or a manifest in it is wrong.
    """
    if not folder.is_dir():
        raise ManifestError(folder, "is not a folder.", "Name the catalogue's folder.")
    children = sorted(child for child in folder.iterdir() if child.is_dir())
    return sorted(
        (load_manifest(child) for child in children if not child.name.startswith(("_", "."))),
        key=lambda manifest: manifest.name,
    )


def manifest_digest(
    folder: Path, build_precision: Precision | str, target: Target | str = Target.CPU
) -> str:
    """Return the digest of a build of the model in `folder`.

    Args:
        folder: the model's.
        build_precision: of the build.
        target: of the build.

    Raises:
        ManifestError: the manifest is wrong.
    """
    return load_manifest(folder).digest_for(build_precision, target)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest (draft 2020-12)."""
    schema = Manifest.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _validated(document: Document, file: Path | str) -> Manifest:
    if not isinstance(document.data, dict):
        raise ManifestError(file, "is not a mapping.", f"Begin with `schema: {SCHEMA}`.")
    written = document.data.get("schema", SCHEMA)
    if written != SCHEMA:
        # All else that such a manifest says would only be called wrong.
        raise ManifestError(
            file,
            f"the schema is {written}; this version reads {SCHEMA}.",
            "Write the model in that schema (docs/models.md), or use the version that it is for.",
            line=document.line_of(("schema",))[0],
            field="schema",
        )
    try:
        return Manifest.model_validate(document.data)
    except ValidationError as error:
        raise _explained(file, document, error) from error


def _explained(file: Path | str, document: Document, error: ValidationError) -> ManifestError:
    # A misspelt key shows twice, as unknown and as missing; the unknown one has a line.
    first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    location = first["loc"]
    if first["type"] == "union_tag_invalid":
        # What is wrong is the word that says which kind of a part it is.
        location = (*location, str(first.get("ctx", {}).get("discriminator", "")).strip("'"))
    line, known = document.line_of(location)
    last = location[-1] if location else ""
    if first["type"] == "extra_forbidden":
        problem = f"the key {last} is not part of the schema."
        remedy = "Remove it or correct its spelling."
        known = tuple(location)
    elif first["type"] == "missing":
        problem = f"the key {last} is missing."
        remedy = "Add it."
        known = tuple(location)
    else:
        message = first["msg"].removeprefix("Value error, ")
        problem = f"{message[:1].lower()}{message[1:]}{_shown(first.get('input'))}."
        remedy = "Correct the value."
    others = error.error_count() - 1
    if others:
        remedy += f" ({others} more after this one.)"
    return ManifestError(
        file, problem, remedy, line=line, field=".".join(str(step) for step in known)
    )


def _shown(value: Any) -> str:
    """Show a plain value that was refused; whole mappings would only hide the message."""
    return f" (found {value!r})" if isinstance(value, str | int | float | bool) else ""

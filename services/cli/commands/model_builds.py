"""Which builds a command means: those that are served of models, or any by their digests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.building import ListedModel, find_builds, list_builds, list_models
from models.manifest import BuildRecord, Manifest, lint_manifest
from models.manifest.loading import MANIFEST_FILE
from services.cli.output import CommandError
from services.common.settings import Settings

Builds = Annotated[
    list[str] | None,
    typer.Argument(help="Models (what is served of them) or digests (default: all served)."),
]
Target = Annotated[str, typer.Option(help="cpu, torch or tensorrt (default: the served target).")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


def models_of(settings: Settings, target: str) -> list[ListedModel]:
    """The catalogue's models, with what is built of each."""
    return list_models(
        settings.catalogue_dir, target or settings.triton.target, settings.triton.repository
    )


def manifest_of(settings: Settings, name: str) -> Manifest:
    """The manifest of a model of the catalogue, or of a folder.

    Raises:
        CommandError: there is no such model.
        ManifestError: its manifest cannot be built.
    """
    for folder in (settings.catalogue_dir / name, Path(name)):
        if (folder / MANIFEST_FILE).is_file():
            return lint_manifest(folder)
    raise CommandError(
        f"{name} is neither a model of the catalogue nor a folder with a {MANIFEST_FILE}. "
        "See axial models list."
    )


def records_of(settings: Settings, wanted: list[str] | None, target: str) -> list[BuildRecord]:
    """The builds that are meant.

    Raises:
        CommandError: a model is not served.
        BuildError: a digest is of no build, or of several.
    """
    listed = models_of(settings, target)
    served = {item.name: item.served for item in listed}
    manifests = [item.manifest for item in listed]
    builds = list_builds(target or settings.triton.target, settings.triton.repository, manifests)
    records: list[BuildRecord] = []
    for one in wanted or list(served):
        if one not in served:
            records += [build.record for build in find_builds(builds, one)]
            continue
        record = served[one]
        if record is None:
            raise CommandError(f"No build of {one} is served. Run: axial models build {one}")
        records.append(record)
    return records

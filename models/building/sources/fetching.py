"""Fetching files into the cache: from there, from the mirror, from the source, in this order.

The cache keeps files by hash (`files/<sha256>/<name>`, as wheels' files lie there), so that one
file serves every model that names it. The mirror is a folder with a folder for each source's name;
in it a file lies under its path, or under the end of its path: `blast-ct-v1/model_1.pt`. On a
machine without a network, the mirror alone is enough.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import ValidationError

from models.building.errors import FetchError
from models.building.sources.described import (
    FolderSource,
    GitFileSource,
    PublishedFile,
    PublishedSource,
    UrlSource,
)
from models.building.sources.downloading import download, download_unpinned
from models.building.wheels import file_sha256

__all__ = ["Arrived", "fetch_file", "fetch_files", "pin_file"]

# Called with a file's path in its source, the bytes that are there, and the bytes in all.
Arrived = Callable[[str, int, int], None]

_PIECE: Final = 1 << 20

Source = GitFileSource | UrlSource | FolderSource


def _silent(path: str, there: int, total: int) -> None:
    """Tell nobody."""


def fetch_files(
    source: Source,
    cache: Path,
    *,
    mirror: Path | None = None,
    arrived: Arrived = _silent,
) -> dict[str, Path]:
    """Return every file of a source by its path; as for `fetch_file`."""
    return {
        file.path: fetch_file(source, file, cache, mirror=mirror, arrived=arrived)
        for file in source.files
    }


def fetch_file(
    source: Source,
    file: PublishedFile,
    cache: Path,
    *,
    mirror: Path | None = None,
    arrived: Arrived = _silent,
) -> Path:
    """Return a file of a source as it lies in the cache, fetched there where it is not.

    A download that breaks off goes on where it ended when it is tried again. One process at a
    time brings a file; others wait.

    Args:
        source: where it is published.
        file: which one, with its bytes and SHA-256.
        cache: the folder of all fetched files.
        mirror: a folder that has files already; what is not in it is fetched from the source.
        arrived: told of progress.

    Raises:
        FetchError: it cannot be had, or is another file; with what was expected and found.
    """
    place = cache / "files" / file.sha256 / PurePosixPath(file.path).name
    with _alone(place):
        if not _is(place, file):
            _bring(source, file, place, mirror, arrived)
    arrived(file.path, file.bytes, file.bytes)
    return place


def pin_file(
    source: GitFileSource | UrlSource, path: str, cache: Path, *, limit: int
) -> PublishedFile:
    """Return a file with the bytes and hash that it has today, fetched into the cache.

    For writing a manifest: from then on the file is this one or refused.

    Args:
        source: where it is published; its own list of files does not matter.
        path: the file's path there.
        cache: the folder of all fetched files.
        limit: a larger file is refused.

    Raises:
        FetchError: it cannot be had.
    """
    unpinned = cache / "unpinned" / source.name / PurePosixPath(path).name
    with _alone(unpinned):
        try:
            download_unpinned(source.address(path), source.hosts, limit, unpinned)
            size, sha256 = unpinned.stat().st_size, file_sha256(unpinned)
            file = PublishedFile(path=path, bytes=size, sha256=sha256)
        except (FetchError, ValidationError) as error:
            unpinned.unlink(missing_ok=True)
            raise FetchError(
                f"{source.name}: {path} cannot be fetched from {source.address(path)}: {error}"
            ) from error
        place = cache / "files" / sha256 / unpinned.name
        place.parent.mkdir(parents=True, exist_ok=True)
        unpinned.replace(place)
    return file


def _bring(
    source: Source, file: PublishedFile, place: Path, mirror: Path | None, arrived: Arrived
) -> None:
    near = _nearby(source, file, mirror)
    partly = place.with_name(f".{place.name}.partly")
    if near is not None:
        _copy(near, file, partly, arrived)
        where = str(near)
    elif isinstance(source, FolderSource):
        raise FetchError(
            f"{source.name}: {file.path} is not in the folder {source.folder}. Put it there; it "
            f"has {file.bytes} bytes and SHA-256 {file.sha256}."
        )
    else:
        where = _download(source, file, partly, mirror, arrived)
    _require(partly, file, source.name, where)
    partly.replace(place)


def _nearby(source: Source, file: PublishedFile, mirror: Path | None) -> Path | None:
    """Return where a file lies on this machine: the source's own folder, or the mirror."""
    if isinstance(source, FolderSource):
        there = Path(source.folder) / file.path
        if there.is_file():
            return there
    if mirror is None:
        return None
    parts = PurePosixPath(file.path).parts
    ends = (mirror / source.name / Path(*parts[start:]) for start in range(len(parts)))
    found = [end for end in ends if end.is_file()]
    # Of several, the one that is the file; else the first, for the error to name.
    return next((one for one in found if _is(one, file)), found[0] if found else None)


def _copy(near: Path, file: PublishedFile, partly: Path, arrived: Arrived) -> None:
    size = near.stat().st_size
    if size != file.bytes:
        raise FetchError(
            f"{near} has {size} bytes, expected are {file.bytes}. Put the published file there."
        )
    with near.open("rb") as source, partly.open("wb") as out:
        there = 0
        while piece := source.read(_PIECE):
            out.write(piece)
            there += len(piece)
            arrived(file.path, there, file.bytes)


def _download(
    source: PublishedSource,
    file: PublishedFile,
    partly: Path,
    mirror: Path | None,
    arrived: Arrived,
) -> str:
    address = source.address(file.path)
    free = shutil.disk_usage(partly.parent).free
    if free < file.bytes:
        raise FetchError(
            f"{source.name}: {file.path} needs {file.bytes} bytes, and {partly.parent} has {free} "
            "free. Make room, or name another cache."
        )
    try:
        download(
            address,
            source.hosts,
            file.bytes,
            partly,
            lambda there: arrived(file.path, there, file.bytes),
        )
    except FetchError as error:
        put = mirror / source.name if mirror else "a mirror folder, below"
        raise FetchError(
            f"{source.name}: {file.path} cannot be fetched from {address}: {error} Try again, or "
            f"put the file into {put} by hand: {file.bytes} bytes, SHA-256 {file.sha256}."
        ) from error
    return address


def _require(partly: Path, file: PublishedFile, source: str, where: str) -> None:
    """Raise FetchError unless this is the file; what is not is removed."""
    found, size = file_sha256(partly), partly.stat().st_size
    if found == file.sha256 and size == file.bytes:
        return
    partly.unlink()
    if size != file.bytes:
        raise FetchError(
            f"{source}: {file.path} from {where} has {size} bytes, expected are {file.bytes}. It "
            "was removed; try again, or correct the manifest."
        )
    raise FetchError(
        f"{source}: {file.path} from {where} has SHA-256 {found}, expected is {file.sha256}. It "
        "was removed. Do not use it before you know why it changed."
    )


def _is(place: Path, file: PublishedFile) -> bool:
    return (
        place.is_file() and place.stat().st_size == file.bytes and file_sha256(place) == file.sha256
    )


@contextmanager
def _alone(place: Path) -> Generator[None]:
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Where builds lie, and how one appears there: complete, or not at all.

<output>/<target>/repository/<model>/config.pbtxt
                                    /build-record.json
                                    /1/model.py, manifest.yaml, known-answer.npz, networks
<output>/<target>/repository/<model>--<network>/   (tensorrt: one plan each)
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from models.building.wheels import file_sha256
from models.manifest import BuildRecord, ModelError, Target, load_build_record
from models.manifest.record import BUILD_RECORD_FILE, BuiltFile

__all__ = [
    "altered_files",
    "current_record",
    "list_built_files",
    "publish",
    "repository_folder",
    "staging",
]


def repository_folder(output_root: Path, target: Target) -> Path:
    """Return the Triton repository of a target."""
    return output_root / target.value / "repository"


@contextmanager
def staging(output_root: Path, target: Target) -> Generator[Path]:
    """Give an empty folder on the repository's file system; it is removed afterwards.

    One build of a target at a time: a second process waits. What a killed build left is cleared.
    """
    home = output_root / target.value
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in home.glob(".staging*"):
            shutil.rmtree(left)
        folder = home / ".staging"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def publish(staged: Path, repository: Path) -> None:
    """Move every model folder in `staged` into the repository, replacing older builds.

    Plans come before the pipeline that calls them (its folder holds the record and is moved
    last), so that a record in the repository means that all it names is there.
    """
    repository.mkdir(parents=True, exist_ok=True)
    folders = sorted(staged.iterdir(), key=lambda folder: (folder / BUILD_RECORD_FILE).exists())
    for folder in folders:
        place = repository / folder.name
        if place.exists():
            place.rename(staged.with_name(f"{staged.name}-old-{folder.name}"))
        folder.rename(place)
    for old in staged.parent.glob(f"{staged.name}-old-*"):
        shutil.rmtree(old)


def current_record(model_folder: Path, build_key: str) -> BuildRecord | None:
    """Return the record of a build that is complete and was made from the same; else None."""
    try:
        record = load_build_record(model_folder)
    except ModelError:
        return None
    complete = all(
        (model_folder.parent / file.path).is_file()
        and (model_folder.parent / file.path).stat().st_size == file.bytes
        for file in record.files
    )
    return record if complete and record.build_key == build_key else None


def list_built_files(folders: Iterable[Path]) -> tuple[BuiltFile, ...]:
    """Return every file of model folders with size and hash, by its path in the repository."""
    return tuple(
        BuiltFile(
            path=str(file.relative_to(folder.parent)),
            bytes=file.stat().st_size,
            sha256=file_sha256(file),
        )
        for folder in sorted(folders)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != BUILD_RECORD_FILE
    )


def altered_files(record: BuildRecord, repository: Path) -> list[str]:
    """Return the paths of files that are missing or differ from the record."""
    return [
        file.path
        for file in record.files
        if not (repository / file.path).is_file()
        or file_sha256(repository / file.path) != file.sha256
    ]

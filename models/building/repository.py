"""Where builds lie, and how one appears there: complete, or not at all.

<output>/<target>/repository/<name>--<digest12>/config.pbtxt
                                               /build-record.json
                                               /1/model.py, manifest.yaml, known-answer.npz
                                               /1/ and the networks
<output>/<target>/repository/<name>--<digest12>--<network>/   (tensorrt: one plan each)
<output>/<target>/served/<name>.json                          (see models.manifest.served)
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.building.exchange import take_place
from models.building.wheels import file_sha256
from models.manifest import (
    BuildRecord,
    Manifest,
    ModelError,
    Target,
    build_folder,
    load_build_record,
    served_file,
)
from models.manifest.record import BUILD_RECORD_FILE, BuiltFile
from models.manifest.served import SERVED_SCHEMA

__all__ = [
    "altered_files",
    "clear_old_layout",
    "current_record",
    "list_built_files",
    "publish",
    "say_served",
    "staging",
]


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


def publish(staged: Path, repository: Path) -> bool:
    """Move every model folder in `staged` into the repository; builds of one digest change places.

    Plans come before the pipeline that calls them (its folder holds the record and is moved
    last), so that a record in the repository means that all it names is there. What had the place
    lies in `staged` afterwards. Returns False where the file system cannot exchange folders, and
    a folder that was replaced was missing for a moment.
    """
    repository.mkdir(parents=True, exist_ok=True)
    folders = sorted(staged.iterdir(), key=lambda folder: (folder / BUILD_RECORD_FILE).exists())
    gapless = [take_place(folder, repository / folder.name) for folder in folders]
    return all(gapless)


def say_served(output_root: Path, record: BuildRecord) -> bool:
    """Have a build served from now on; False when it is already said.

    The file is replaced as a whole and is on disk before it can be seen.
    """
    file = served_file(output_root, record.target, record.model)
    wanted: dict[str, Any] = {
        "schema": SERVED_SCHEMA,
        "digest": record.digest,
        "version": record.version,
        "precision": record.precision.value,
        "built_at": record.built_at,
    }
    if _without_time(file) == wanted:
        return False
    wanted["requested_at"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as out:
        out.write(json.dumps(wanted, indent=2) + "\n")
        out.flush()
        os.fsync(out.fileno())
    fresh.replace(file)
    return True


def _without_time(file: Path) -> dict[str, Any] | None:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict):
        return None
    return {key: value for key, value in content.items() if key != "requested_at"}  # pyright: ignore[reportUnknownVariableType]


def clear_old_layout(manifest: Manifest, repository: Path, into: Path) -> list[str]:
    """Move what an earlier version of the builder left of a model out of the repository.

    It kept one build a model, in `<name>/`, and plans in `<name>--<network>/`. Returns the names of
    the folders that were moved into `into`.
    """
    places = [repository / manifest.name]
    places += [repository / f"{manifest.name}--{network}" for network in manifest.networks]
    moved: list[str] = []
    for place in places:
        # A build of today may be called like an old plan, whose network's name is twelve digits.
        if not (place / "config.pbtxt").exists() or _is_of_today(place):
            continue
        place.rename(into / f"old-{place.name}")
        moved.append(place.name)
    return moved


def _is_of_today(place: Path) -> bool:
    try:
        record = load_build_record(place)
    except ModelError:
        return False
    root, target = place.parent.parent.parent, record.target
    return place.name == build_folder(root, target, record.model, record.digest).name


def current_record(folder: Path, build_key: str) -> BuildRecord | None:
    """Return the record of a build that is complete and was made from the same; else None."""
    try:
        record = load_build_record(folder)
    except ModelError:
        return None
    complete = all(
        (folder.parent / file.path).is_file()
        and (folder.parent / file.path).stat().st_size == file.bytes
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

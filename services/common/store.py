"""The study store: what was received and what was made of it, by key.

Keys are relative paths of UIDs. A write is complete, synced and findable when it returns: the
bytes go to a temporary name, are synced, renamed, and the directory entry is synced.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import AxialError
from services.common.identity import is_uid


class StoreError(AxialError):
    """The study store cannot read or write a key."""


@dataclass(frozen=True, slots=True)
class StudyStore:
    """A study store in a folder.

    Attributes:
        root: the folder; made when missing.
    """

    root: Path

    def put(self, key: str, chunks: Iterable[bytes | memoryview]) -> int:
        """Writes `chunks` under `key`, durably, and returns the number of bytes.

        An existing object is replaced as a whole: readers see the old or the new one.

        Raises:
            StoreError: retryable; the disk refused. Nothing is left under `key` then that was
                not there before.
        """
        target = self.path(key)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            self._make_folder(target.parent)
            size = 0
            with temporary.open("xb") as file:
                for chunk in chunks:
                    size += file.write(chunk)
                file.flush()
                os.fdatasync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise StoreError(
                f"The store could not write {key}: {error.strerror or error}. "
                "Check the disk's space and permissions.",
                retryable=True,
            ) from error
        return size

    def read(self, key: str) -> bytes:
        """The bytes under `key`.

        Raises:
            StoreError: there is no such key, or the disk cannot read it.
        """
        try:
            return self.path(key).read_bytes()
        except OSError as error:
            raise StoreError(
                f"The store could not read {key}: {error.strerror or error}."
            ) from error

    def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""
        return self.path(key).is_file()

    def path(self, key: str) -> Path:
        """Where the object lies (or would lie) on this machine.

        Raises:
            StoreError: the key would leave the store.
        """
        parts = key.split("/")
        if not key or any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise StoreError(f"'{key}' is no key of the study store.")
        return self.root.joinpath(*parts)

    def _make_folder(self, folder: Path) -> None:
        missing: list[Path] = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for made in reversed(missing):
            made.mkdir(exist_ok=True)
            _sync_folder(made.parent)


def instance_key(study_uid: str, series_uid: str, sop_instance_uid: str) -> str:
    """The key of a received instance.

    Raises:
        StoreError: one of them is no UID and must not become a path.
    """
    for uid in (study_uid, series_uid, sop_instance_uid):
        if not is_uid(uid):
            raise StoreError(f"'{uid[:70]}' is no UID; PS3.5 9.1 allows digits and dots.")
    return f"studies/{study_uid}/{series_uid}/{sop_instance_uid}.dcm"


def job_key(job_uid: str, name: str) -> str:
    """The key of something a job made: its labels, its results."""
    return f"jobs/{job_uid}/{name}"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

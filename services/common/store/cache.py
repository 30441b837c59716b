"""Local copies of objects that lie elsewhere, within a bound.

Copies are kept by group (a series, a job): what is used together comes and goes together. A group
in use is held by a shared lock on a file in its folder, so that several processes may share one
cache: who removes a group needs the lock alone. The least recently used group goes first. What is
in use is never removed, so that the bound can be exceeded by what is being worked on.

Copies are not synced: each boot of the machine has a folder of its own, and those of earlier boots
are removed. The cache must lie on a disk of the machine that uses it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services.common.store.errors import StoreError

_LOCK = ".lock"
_LEAVING = ".leaving-"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Cache:
    """A bounded folder of copies.

    Args:
        folder: made when missing.
        max_bytes: what all copies that are not in use may take together.

    Raises:
        StoreError: the folder cannot be made.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else "boot"
        self._root = folder / boot
        self._max_bytes = max_bytes
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            for entry in folder.iterdir():
                if entry != self._root:
                    shutil.rmtree(entry, ignore_errors=True)
        except OSError as error:
            raise StoreError(
                f"The store's cache {folder} cannot be used: {error.strerror or error}."
            ) from error

    @contextmanager
    def hold(self, groups: Iterable[str]) -> Generator[dict[str, Path]]:
        """The folders of groups, by group, kept while the context is open.

        Raises:
            OSError: the disk refused.
        """
        with ExitStack() as held:
            folders: dict[str, Path] = {}
            for group in sorted(set(groups)):
                folders[group] = held.enter_context(self._hold(group))
            yield folders

    def trim(self) -> None:
        """Removes the least recently used groups until the cache fits its bound.

        Cost: one look at every copy.
        """
        groups = [
            (_used_at(entry), _size(entry), entry)
            for entry in self._entries()
            if not entry.name.startswith(_LEAVING)
        ]
        total = sum(size for _, size, _ in groups)
        for _, size, folder in sorted(groups):
            if total <= self._max_bytes:
                return
            if self._remove(folder):
                total -= size

    @contextmanager
    def _hold(self, group: str) -> Generator[Path]:
        folder = self._root / hashlib.sha256(group.encode()).hexdigest()[:32]
        descriptor = _lock_shared(folder)
        try:
            os.utime(descriptor)
            yield folder
        finally:
            os.close(descriptor)

    def _entries(self) -> list[Path]:
        try:
            return list(self._root.iterdir())
        except OSError:
            return []

    def _remove(self, folder: Path) -> bool:
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_lock_of(descriptor, folder):
                return False  # another removed that group; this one was made since
            # Under another name first: whoever wants the group now makes it anew.
            leaving = folder.with_name(f"{_LEAVING}{uuid.uuid4().hex}")
            folder.rename(leaving)
            shutil.rmtree(leaving, ignore_errors=True)
        except OSError:  # in use, or another process was faster
            return False
        finally:
            os.close(descriptor)
        return True


def _lock_shared(folder: Path) -> int:
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            if folder.exists() and not folder.is_dir():
                raise
            continue  # `mkdir` found the group, and it was removed before it looked what it found
        except FileNotFoundError:
            continue  # the group was removed between these two lines
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is_lock_of(descriptor, folder):
            return descriptor
        os.close(descriptor)  # it was removed while we waited


def _is_lock_of(descriptor: int, folder: Path) -> bool:
    """Whether an open lock is the one that lies in the folder now.

    A lock outlives its folder: who opened it before the removal gets it afterwards, when the
    folder of that name is another.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat())
    except OSError:
        return False


def _used_at(folder: Path) -> float:
    try:
        return (folder / _LOCK).stat().st_mtime
    except OSError:
        return 0.0


def _size(folder: Path) -> int:
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except OSError:
        return 0

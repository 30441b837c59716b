"""The spool: a folder into which instances are received, each durable before it is acknowledged.

A file is written while its data set arrives, then its head is put before it, its data is synced
and its directory entry is synced. Directory entries are synced together: whoever waits while one
sync runs shares the next one (group commit). Names are never used twice, so that nothing is ever
overwritten here; what the same instance twice means is decided when it is registered.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from services.common.crashpoints import crashpoint
from services.listener.door.part10 import META_BYTES, FileMeta, compose

SUFFIX = ".dcm"


class SpoolError(Exception):
    """The disk did not take an instance; the sender keeps its copy.

    Attributes:
        too_large: the instance is larger than is allowed; sending it again cannot help.
    """

    def __init__(self, message: str, *, too_large: bool = False) -> None:
        super().__init__(message)
        self.too_large = too_large


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """An instance that is durable in the spool.

    Attributes:
        path: its file.
        data_bytes: length of the data set as sent, without the `META_BYTES` before it.
        data_digest: its SHA-256, hexadecimal.
        received_at: seconds since the epoch, UTC.
    """

    path: str
    meta: FileMeta
    data_bytes: int
    data_digest: str
    received_at: float

    def as_json(self) -> dict[str, Any]:
        """The form in which it is told to the main process."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> SpooledFile:
        """Back from `as_json`."""
        values: dict[str, Any] = {**told, "meta": FileMeta(**told["meta"])}
        return cls(**values)


class Spool:
    """A spool folder of one process; may be used from many threads.

    Args:
        folder: made when missing. No two processes may write into one.
        max_instance_bytes: data sets that grow larger are not taken.

    Raises:
        SpoolError: the folder cannot be made.
    """

    def __init__(self, folder: Path, max_instance_bytes: int = 1 << 40) -> None:
        self.folder = folder
        self._limit = max_instance_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._entries = _EntrySync(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            raise SpoolError(f"The spool cannot be opened: {error.strerror}.") from error
        self._lock = threading.Lock()
        # Names of an earlier process of this folder lie before ours, should they still be there.
        self._start = f"{time.time_ns():x}"
        self._number = 0

    def begin(self) -> SpoolWriter:
        """A new file.

        Raises:
            SpoolError: the disk refused it.
        """
        with self._lock:
            self._number += 1
            number = self._number
        path = f"{self.folder}/{self._start}-{number:07d}{SUFFIX}"
        return SpoolWriter(path, self._entries, self._limit)

    def close(self) -> None:
        """Ends the use of the folder."""
        self._entries.close()


class SpoolWriter:
    """One instance on its way to the disk; discarded when it is left without `commit`."""

    __slots__ = ("_descriptor", "_digest", "_entries", "_limit", "_path", "_size")

    def __init__(self, path: str, entries: _EntrySync, limit: int) -> None:
        self._path = path
        self._entries = entries
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        try:
            self._descriptor = os.open(
                path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640
            )
            os.lseek(self._descriptor, META_BYTES, os.SEEK_SET)
        except OSError as error:
            raise _refused(error) from error

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def data_bytes(self) -> int:
        """How much of the data set has been written."""
        return self._size

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes of the data set.

        Raises:
            SpoolError: the disk refused them, or the instance is too large.
        """
        length = len(data)
        if self._size + length > self._limit:
            raise SpoolError(f"More than {self._limit} bytes in one instance.", too_large=True)
        try:
            written = os.write(self._descriptor, data)
            while written < length:  # a signal, or the last block of the disk
                written += os.write(self._descriptor, memoryview(data)[written:])
        except OSError as error:
            raise _refused(error) from error
        self._digest.update(data)
        self._size += length

    def read(self, length: int) -> bytes:
        """The first `length` bytes of the data set that has been written."""
        return os.pread(self._descriptor, length, META_BYTES)

    def commit(self, meta: FileMeta) -> SpooledFile:
        """Makes the instance durable: data and directory entry are synced when it returns.

        Raises:
            SpoolError: the disk refused; nothing is left of the instance then.
        """
        digest = self._digest.digest()
        try:
            os.pwrite(self._descriptor, compose(meta, self._size, digest), 0)
            os.fdatasync(self._descriptor)
            self._entries.sync()
        except OSError as error:
            self.discard()
            raise _refused(error) from error
        crashpoint("listener.file.synced")
        os.close(self._descriptor)
        self._descriptor = -1
        return SpooledFile(self._path, meta, self._size, digest.hex(), time.time())

    def discard(self) -> None:
        """Removes the file unless it was committed."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - a receiver handles paths as text


class _EntrySync:
    """Syncs a folder's entries; callers that come while a sync runs share the next one.

    A caller is served by a sync that began after its call: the entry it made is in it.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._failed = 0  # the newest sync that failed, and why
        self._failure: OSError | None = None

    def sync(self) -> None:
        """Returns when a sync that began after this call has ended.

        Raises:
            OSError: that sync failed.
        """
        with self._changed:
            wanted = self._begun + 1
            while self._running and self._ended < wanted:
                self._changed.wait()
            if self._ended >= wanted:
                if self._failure is not None and self._failed >= wanted:
                    raise self._failure
                return
            self._running = True
            self._begun += 1
            own = self._begun
        failure: OSError | None = None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            failure = error
        with self._changed:
            self._running = False
            self._ended = own
            if failure is not None:
                self._failed, self._failure = own, failure
            self._changed.notify_all()
        if failure is not None:
            raise failure

    def close(self) -> None:
        os.close(self._descriptor)


def _refused(error: OSError) -> SpoolError:
    return SpoolError(f"{error.strerror or 'The disk refused'}.")

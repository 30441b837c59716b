"""The spool: a folder into which instances are received, each durable before it is acknowledged.

Files are made in advance, many at a time, and the folder's entries are synced once for all of
them (group commit): when an instance arrives, the entry it needs is on disk already. Its data set
is written while it arrives, then its head is put before it and its data is synced. Names are never
used twice, so that nothing is ever overwritten here; what the same instance twice means is decided
when it is registered.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from services.common.crashpoints import crashpoint
from services.common.durable import make_folder
from services.listener.door.part10 import META_BYTES, FileMeta, compose, digest_text
from services.listener.door.write_out import begin_to_write_out

SUFFIX = ".dcm"

# Of the writes into a file. Measured on ext4: half a megabyte in 0.15 ms instead of 0.19.
_ALIGNMENT = 64 << 10
# The disk begins with so much of a file while the rest arrives: the sync then waits a third less.
# Smaller parts cost more processor time than they save waiting.
_BEGUN_BYTES = 240 << 10
# How long the answer to how much space is left is believed.
_FREE_FOR_S = 0.05
# Files made at a time: one sync of the entries for as many instances. More are made when half of
# them are taken, so that an instance seldom waits for them.
_MADE_AT_ONCE = 64


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
        data_digest: its `part10.digest_text`.
        received_at: seconds since the epoch, UTC.
    """

    path: str
    meta: FileMeta
    data_bytes: int
    data_digest: str
    received_at: float


class Spool:
    """A spool folder of one process; may be used from many threads.

    Args:
        folder: made when missing. No two processes may write into one.
        max_instance_bytes: data sets that grow larger are refused.

    Raises:
        SpoolError: the folder cannot be made.
    """

    def __init__(self, folder: Path, max_instance_bytes: int = 1 << 40) -> None:
        self.folder = folder
        self._limit = max_instance_bytes
        try:
            make_folder(folder)
            self._ready = _ReadyFiles(folder)
        except OSError as error:
            raise SpoolError(f"The spool cannot be opened: {error.strerror}.") from error

    def begin(self) -> SpoolWriter:
        """A new file.

        Raises:
            SpoolError: the disk refused the file.
        """
        try:
            path, descriptor = self._ready.pop()
        except OSError as error:
            raise _refused(error) from error
        return SpoolWriter(path, descriptor, self._limit)

    def free_bytes(self) -> int:
        """Bytes that may still be written on the folder's disk; 0 where the disk does not answer.

        As of a moment ago: callers ask before every instance.
        """
        return self._ready.free_bytes()

    def close(self) -> None:
        """Ends the use of the folder; files that nothing was written to are removed."""
        self._ready.close()


class SpoolWriter:
    """One instance on its way to the disk; discarded when the context is left without `commit`.

    Bytes are written up to multiples of `_ALIGNMENT` in the file; those after the last one wait for
    more of them. The page cache takes such writes with less work, and small PDUs together.
    """

    __slots__ = ("_begun", "_checksum", "_descriptor", "_end", "_held", "_limit", "_path", "_size")

    def __init__(self, path: str, descriptor: int, limit: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._limit = limit
        self._size = 0
        self._checksum = 0
        self._held = bytearray()
        self._end = META_BYTES  # of what was written of the file
        self._begun = META_BYTES  # so far the disk has begun with it

    def __enter__(self) -> SpoolWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def data_bytes(self) -> int:
        """How much of the data set has been taken."""
        return self._size

    @property
    def data_digest(self) -> str:
        """`part10.digest_text` of what has been taken of the data set."""
        return digest_text(self._checksum, self._size)

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes of the data set.

        Raises:
            SpoolError: the disk refused the bytes, or the instance is too large.
        """
        length = len(data)
        if self._size + length > self._limit:
            raise SpoolError(f"More than {self._limit} bytes in one instance.", too_large=True)
        self._checksum = crc32(data, self._checksum)
        self._size += length
        reached = self._size + META_BYTES
        end = reached - reached % _ALIGNMENT
        if end <= self._end:
            self._held += data
            return
        if self._end - self._begun >= _BEGUN_BYTES:  # and there is more
            begin_to_write_out(self._descriptor, self._begun, self._end)
            self._begun = self._end
        split = length - (reached - end)
        view = memoryview(data)
        try:
            _write_all(self._descriptor, self._held, view[:split], self._end)
        except OSError as error:
            raise _refused(error) from error
        self._held = bytearray(view[split:])
        self._end = end

    def hasten(self) -> None:
        """Has the disk begin with all that is written, when nothing more will come.

        What is to be done until `commit` is done meanwhile.
        """
        if self._end > self._begun:
            begin_to_write_out(self._descriptor, self._begun, self._end)
            self._begun = self._end

    def read(self, length: int) -> bytes:
        """The first `length` bytes of the data set that has been taken."""
        written = self._end - META_BYTES
        found = os.pread(self._descriptor, min(length, written), META_BYTES)
        return found + self._held[: length - len(found)]

    def commit(self, meta: FileMeta) -> SpooledFile:
        """Makes the instance durable: its data and its directory entry are on disk afterwards.

        Raises:
            SpoolError: the disk refused; nothing is left of the instance then.
        """
        try:
            head = compose(meta, self._size, self._checksum)
            if self._end == META_BYTES:
                _write_all(self._descriptor, head, self._held, 0)
            else:
                _write_all(self._descriptor, b"", self._held, self._end)
                _write_all(self._descriptor, b"", head, 0)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self.discard()
            raise _refused(error) from error
        crashpoint("listener.file.synced")
        descriptor, self._descriptor = self._descriptor, -1
        with contextlib.suppress(OSError):  # it is on disk, whatever this says
            os.close(descriptor)
        digest = digest_text(self._checksum, self._size)
        return SpooledFile(self._path, meta, self._size, digest, time.time())

    def discard(self) -> None:
        """Removes the file; a committed file stays."""
        if self._descriptor < 0:
            return
        _give_up(self._path, self._descriptor)
        self._descriptor = -1


class _ReadyFiles:
    """Open, empty files whose entries in the folder are on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._ready: deque[tuple[str, int]] = deque()
        self._changed = threading.Condition()
        self._failure: OSError | None = None
        self._wanted = True
        self._closed = False
        # Bytes, and until when they are believed: one value, so that no thread sees half of it.
        self._free = (0, -math.inf)
        # Names of an earlier process in this folder lie before ours, should they still be there.
        self._start = f"{time.time_ns():x}"
        self._number = 0
        self._thread = threading.Thread(target=self._make, name="spool", daemon=True)
        self._thread.start()

    def pop(self) -> tuple[str, int]:
        """A path and a descriptor.

        Raises:
            OSError: no file can be made at present.
        """
        with self._changed:
            if len(self._ready) <= _MADE_AT_ONCE // 2:
                self._want()
            while not self._ready:
                if self._failure is not None and not self._wanted:
                    raise self._failure
                self._want()  # more may wait than are made at a time
                self._changed.wait()
            return self._ready.popleft()

    def _want(self) -> None:
        if not self._wanted:
            self._wanted = True
            self._changed.notify_all()

    def free_bytes(self) -> int:
        now = time.monotonic()
        free, until = self._free
        if now >= until:
            try:
                found = os.fstatvfs(self._descriptor)
                free = found.f_bavail * found.f_frsize
            except OSError:
                free = 0
            self._free = (free, now + _FREE_FOR_S)
        return free

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        for path, descriptor in self._ready:
            _give_up(path, descriptor)
        self._ready.clear()
        os.close(self._descriptor)

    def _make(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
            made: list[tuple[str, int]] = []
            failure: OSError | None = None
            try:
                for _ in range(_MADE_AT_ONCE):
                    made.append(self._one())
                os.fsync(self._descriptor)
            except OSError as error:
                failure = error
                for path, descriptor in made:  # their entries may not be on disk
                    _give_up(path, descriptor)
                made = []
            with self._changed:
                self._ready.extend(made)
                self._failure = failure
                self._wanted = False
                self._changed.notify_all()

    def _one(self) -> tuple[str, int]:
        self._number += 1
        path = f"{self._folder}/{self._start}-{self._number:07d}{SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        return path, descriptor


def _write_all(
    descriptor: int, first: bytes | bytearray, rest: bytes | bytearray | memoryview, at: int
) -> None:
    length = len(first) + len(rest)
    written = os.pwritev(descriptor, (first, rest), at)
    while written < length:  # a signal, or the last block of the disk
        left = b"".join((first, rest))[written:]
        written += os.pwrite(descriptor, left, at + written)


def _give_up(path: str, descriptor: int) -> None:
    os.close(descriptor)
    with contextlib.suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - a receiver handles paths as text


def _refused(error: OSError) -> SpoolError:
    return SpoolError(f"{error.strerror or 'The disk refused'}.")

"""The spool: a folder into which instances are received, each durable before it is acknowledged.

Files are made in advance, many at a time, and the folder's entries are synced once for all of
them (group commit): when an instance arrives, the entry it needs is on disk already. Its data set
is written while it arrives, then its head is put before it and its data is synced. Names are never
used twice, so that nothing is ever overwritten here; what the same instance twice means is decided
when it is registered.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from services.common.crashpoints import crashpoint
from services.common.durable import make_folder
from services.listener.door.part10 import META_BYTES, FileMeta, compose, digest_text
from services.listener.door.ready_files import ReadyFiles, give_up
from services.listener.door.write_out import begin_to_write_out

# Of the writes into a file. Measured on ext4: half a megabyte in 0.15 ms instead of 0.19.
_ALIGNMENT = 64 << 10
# The disk begins with so much of a file while the rest arrives: the sync then waits a third less.
# Smaller parts cost more processor time than they save waiting.
_BEGUN_BYTES = 240 << 10


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
            self._ready = ReadyFiles(folder)
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
        give_up(self._path, self._descriptor)
        self._descriptor = -1


def _write_all(
    descriptor: int, first: bytes | bytearray, rest: bytes | bytearray | memoryview, at: int
) -> None:
    length = len(first) + len(rest)
    written = os.pwritev(descriptor, (first, rest), at)
    while written < length:  # a signal, or the last block of the disk
        left = b"".join((first, rest))[written:]
        written += os.pwrite(descriptor, left, at + written)


def _refused(error: OSError) -> SpoolError:
    return SpoolError(f"{error.strerror or 'The disk refused'}.")

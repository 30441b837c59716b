"""Folders to measure in, which what ran before makes no slower.

When ext4 makes a file it looks past every inode of the block group that was deleted in the last
minutes (``recently_deleted`` in fs/ext4/ialloc.c): tests that ran before cost each new file up to a
millisecond. Each subfolder of a folder that is marked as the top of a hierarchy (``chattr +T``) is
put into a group of its own; of several, the one is taken in which making files is fastest.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

# linux/fs.h: FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL.
_GET_FLAGS, _SET_FLAGS, _TOP = 0x80086601, 0x40086602, 0x00020000
_FLAGS = struct.Struct("@l")
_CANDIDATES, _PROBES = 12, 100


class Scratch:
    """Folders below one that is removed in the end."""

    def __init__(self, root: Path) -> None:
        self._root = root
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # another file system needs no mark
                (flags,) = _FLAGS.unpack(fcntl.ioctl(descriptor, _GET_FLAGS, bytes(_FLAGS.size)))
                fcntl.ioctl(descriptor, _SET_FLAGS, _FLAGS.pack(flags | _TOP))
        finally:
            os.close(descriptor)
        self._candidates = sorted(map(self._probed, range(_CANDIDATES)), reverse=True)

    def folder(self) -> Path:
        """The best folder that is left."""
        return self._candidates.pop()[1]

    def _probed(self, number: int) -> tuple[float, Path]:
        folder = self._root / f"{number}"
        probes = folder / "probes"
        probes.mkdir(parents=True)
        begun = time.perf_counter()
        for probe in range(_PROBES):
            (probes / str(probe)).touch(exist_ok=False)
        return time.perf_counter() - begun, folder


@contextmanager
def scratch_folders() -> Generator[Scratch]:
    """Folders to measure in."""
    with tempfile.TemporaryDirectory(prefix="axial-bench-") as root:
        yield Scratch(Path(root))

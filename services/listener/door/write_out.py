"""Bytes on their way to the disk before anybody waits for them (sync_file_range(2), Linux)."""

from __future__ import annotations

import ctypes

_WRITE = 2  # SYNC_FILE_RANGE_WRITE: begins to write what is not being written yet, and returns

_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]


def begin_to_write_out(descriptor: int, start: int, end: int) -> None:
    """Has the disk begin with a part of a file.

    A hint and no promise: what goes wrong with it is told by the file's own sync.
    """
    _sync_file_range(descriptor, start, end - start, _WRITE)

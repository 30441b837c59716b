"""A folder that takes another's place, so that there is no moment without one."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

__all__ = ["take_place"]

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
# What a kernel or a file system without exchange answers.
_NOT_HERE: Final = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP)


def take_place(fresh: Path, place: Path) -> bool:
    """Move a folder to where another one of its kind may lie; that lies at `fresh` afterwards.

    Both are on one file system. Returns False where this one cannot exchange two folders
    (renameat2 with RENAME_EXCHANGE): there, nothing lay at `place` for a moment.
    """
    if not place.exists():
        fresh.rename(place)
        return True
    if _exchanged(fresh, place):
        return True
    aside = fresh.with_name(f"{fresh.name}.aside")
    place.rename(aside)
    fresh.rename(place)
    aside.rename(fresh)
    return False


def _exchanged(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    failed = rename(
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(one)),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(other)),
        ctypes.c_uint(_RENAME_EXCHANGE),
    )
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _NOT_HERE:
        return False
    raise OSError(number, os.strerror(number), str(other))

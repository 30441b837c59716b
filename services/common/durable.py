"""Directory entries that outlast a power cut; on the standard library alone.

A file's own sync covers its data. That it can be found again is a matter of the folder that names
it, which has to be synced itself (fsync(2)).
"""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Has the folder's entries on disk.

    Raises:
        OSError: the disk refused, or there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes the folder, and those above it that are missing, with their entries on disk.

    Raises:
        FileNotFoundError: another process removed one of the folders meanwhile; call again.
        OSError: the disk refused, or something else has a folder's name.
    """
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for made in reversed(missing):
        try:
            made.mkdir(exist_ok=True)
        except FileExistsError:
            if made.exists() and not made.is_dir():
                raise
            # Made by another and removed by a third, between two looks of this call.
            raise FileNotFoundError(made) from None
        sync_folder(made.parent)

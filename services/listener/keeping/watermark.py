"""How much space is left: below a mark, instances are declined before the disk is full.

A disk that is really full refuses in the middle of an instance, and takes the database with it. At
the mark the sender is told "out of resources" (A700, or 503 over HTTP) and keeps its copy, while
what was acknowledged can still be worked on.

Python's standard library alone: receivers ask here before every instance. Cost: one system call
per folder, about a microsecond.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Watermark:
    """The mark of some folders' disks.

    Attributes:
        folders: the spool's, and the study store's where that is a folder; they need not exist yet.
        min_free_bytes: what has to stay free on each of their disks.
    """

    folders: tuple[str, ...]
    min_free_bytes: int

    def problem(self) -> str | None:
        """Why no instance is accepted, as a sentence for readiness; None when there is room."""
        free, folder = self._lowest()
        if free >= self.min_free_bytes:
            return None
        return (
            f"Only {_mebibytes(free)} are free where {folder} lies, below the mark of "
            f"{_mebibytes(self.min_free_bytes)} (store.min_free_bytes): no instance is taken."
        )

    def _lowest(self) -> tuple[int, str]:
        return min((free_bytes(folder), folder) for folder in self.folders)


def free_bytes(folder: str | Path) -> int:
    """Bytes that this process may still write on the disk of `folder`, which need not exist yet.

    0 where the disk does not answer: nothing can be written there either.
    """
    place = Path(folder).absolute()
    while True:
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            place = place.parent
        except OSError:
            return 0
        else:
            return found.f_bavail * found.f_frsize


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"

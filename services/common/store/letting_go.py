"""The one way in which a file of received data is removed: another durable copy is proven first.

What a sender heard success of may lie in a spool, in an outbox, in the study store, or be kept
beside it. A file goes only when what is to stay has been looked at, at that moment: it has another
name, and the same bytes. (What retention removes is decided elsewhere, of whole studies.)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.common.store.errors import StoreError

_COMPARED_AT_ONCE = 1 << 20


class NoOtherCopy(StoreError):
    """A file was to be removed, and no other copy of the file could be proven; the file stays."""

    def __init__(self) -> None:
        super().__init__(
            "No other copy of a received file could be found; it was not removed.", retryable=True
        )


class Copy(Protocol):
    """What is to stay in a file's place."""

    def stands_for(self, file: Path) -> bool:
        """Whether the copy is durable, has the file's bytes, and is no other name of its entry."""
        ...


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A synced file in a synced folder.

    Attributes:
        path: where it lies.
        head_bytes: so many bytes at the beginning may differ (the sender is written there).
    """

    path: Path
    head_bytes: int = 0

    def stands_for(self, file: Path) -> bool:
        """See `Copy`.

        Raises:
            OSError: the file or its copy cannot be read.
        """
        if not self.path.is_file() or self.path.is_symlink():
            return False
        if self.path.samefile(file):
            # By whatever way it is reached, an entry alone has no second name.
            return not is_one_entry(self.path, file) and file.stat().st_nlink > 1
        return _same_bytes(self.path, file, self.head_bytes)


def let_go(file: Path, copy: Copy) -> None:
    """Removes a file of received data; a file that is gone already is let go.

    Args:
        file: of received data.
        copy: what is to stay in the file's place.

    Raises:
        NoOtherCopy: `copy` does not stand for the file.
        OSError: the disk refused.
    """
    if not file.exists():
        return
    if not copy.stands_for(file):
        raise NoOtherCopy
    file.unlink(missing_ok=True)


def is_one_entry(one: Path, other: Path) -> bool:
    """Whether both paths lead to the same name in the same folder."""
    return one.name == other.name and one.parent.resolve() == other.parent.resolve()


def _same_bytes(one: Path, other: Path, head_bytes: int) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        first.seek(head_bytes)
        second.seek(head_bytes)
        while chunk := first.read(_COMPARED_AT_ONCE):
            if chunk != second.read(_COMPARED_AT_ONCE):
                return False
    return True

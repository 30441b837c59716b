"""What the head of a file that the spool wrote says."""

from __future__ import annotations

from services.listener.door.part10 import Sealed
from services.listener.door.part10 import _parse as parse  # pyright: ignore[reportPrivateUsage]


def read_meta(head: bytes) -> Sealed:
    """What the first `META_BYTES` of a file say, without looking at the data set.

    Raises:
        TornFileError: the file was never finished, or is none of ours.
    """
    return Sealed(*parse(head))

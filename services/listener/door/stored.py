"""An instance that is on disk: how its head is read, and what is said of it."""

from __future__ import annotations

from services.common.header_scan import Scanned, Scheme, TruncatedError, scan
from services.listener.door.messages import Stored
from services.listener.door.spool import SpooledFile, SpoolWriter

# Of a data set, what is looked at for its head at first, and when that was not enough.
HEAD_BYTES = 64 << 10
_LONGER_HEADS = (1 << 20, 8 << 20)


def scan_written(head: bytes, writer: SpoolWriter, syntax: str, scheme: Scheme) -> Scanned:
    """Reads the head of a data set that has been written whole.

    Args:
        head: the data set's first bytes, `HEAD_BYTES` of them if there are so many; more are read
            from the file where these are not enough.
        writer: of the file.
        syntax: UID of the transfer syntax.
        scheme: which attributes are wanted.

    Raises:
        ScanError: the bytes are no data set.
    """
    writer.hasten()
    for longer in _LONGER_HEADS:
        if len(head) >= writer.data_bytes:
            break
        try:
            return scan(head, syntax, scheme, complete=False)
        except TruncatedError:
            head = writer.read(min(longer, writer.data_bytes))
    # What is longer (an encapsulated document, a private element) is passed over by the library.
    return scan(head, syntax, scheme, complete=True)


def stored(
    file: SpooledFile, scanned: Scanned, *, peer: str, priority: str, association: str
) -> Stored:
    """The message about an instance; without its head where that is left to the library."""
    return Stored(
        file=file,
        study_uid=scanned.text("StudyInstanceUID"),
        series_uid=scanned.text("SeriesInstanceUID"),
        scanned=None if scanned.needs_library else scanned,
        peer=peer,
        priority=priority,
        association=association,
    )

"""One C-STORE: from its command to its status (PS3.4 B.2.3, PS3.7 9.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.common.header_scan import ScanError, Scheme
from services.common.identity import hashed, is_uid
from services.dimse.commands import Command
from services.listener.door.admission import REFUSE
from services.listener.door.messages import InstanceRefused, Told
from services.listener.door.outbox import MainProcessGoneError
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import Spool, SpoolError, SpoolWriter
from services.listener.door.statuses import StoreStatus
from services.listener.door.stored import HEAD_BYTES, scan_written, stored

# By their names in a comment, which has 64 characters for all of them.
_UIDS = {
    "SOPClassUID": "SOP class",
    "SOPInstanceUID": "SOP instance",
    "StudyInstanceUID": "study",
    "SeriesInstanceUID": "series",
}

Tell = Callable[[Told], None]
# SOP Instance UID, digest of the data set, transfer syntax.
IsConflict = Callable[[str, str, str], bool]


@dataclass(frozen=True, slots=True)
class Facilities:
    """What every instance of a receiver is stored with.

    Attributes:
        watermark_bytes: with less space left no instance is accepted.
        tell: sends a message to the main process. It is called before a sender hears of success,
            so that the message precedes the answer to any later `Ping`.
        is_conflict: asks whether other bytes are known under a SOP Instance UID than those of a
            digest and transfer syntax.
    """

    spool: Spool
    scheme: Scheme
    watermark_bytes: int
    tell: Tell
    is_conflict: IsConflict = lambda *_: False


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: its calling AE title, the peer's name, its priority, the association's name among
    all that are open, and what becomes of conflicts."""

    ae_title: str
    peer: str
    priority: str
    association: str = ""
    conflicts: str = "keep_first"


class StoreOperation:
    """An instance on its way. Data are appended as they arrive; `finish` gives the status.

    Args:
        sop_class_uid, syntax: of the presentation context that the instance comes in.
    """

    __slots__ = (
        "_command",
        "_facilities",
        "_head",
        "_problem",
        "_sender",
        "_syntax",
        "_writer",
        "study_uid",
    )

    def __init__(
        self,
        facilities: Facilities,
        command: Command,
        sop_class_uid: str,
        syntax: str,
        sender: Sender,
    ) -> None:
        self._facilities = facilities
        self._command = command
        self._syntax = syntax
        self._sender = sender
        self._head = b""
        self._problem: tuple[StoreStatus, str] | None = None
        self._writer: SpoolWriter | None = None
        self.study_uid = ""
        if command.sop_class_uid != sop_class_uid:
            # What a peer may send was decided by contexts (PS3.7 D.3.3.2).
            problem = "The context is one of another SOP class."
            self._fail(StoreStatus.SOP_CLASS_NOT_SUPPORTED, problem)
            return
        try:
            if facilities.spool.free_bytes() < facilities.watermark_bytes:
                self._fail(StoreStatus.OUT_OF_RESOURCES, "The disk is nearly full.")
            else:
                self._writer = facilities.spool.begin()
        except SpoolError as error:
            self._fail(StoreStatus.OUT_OF_RESOURCES, str(error))

    @property
    def data_bytes(self) -> int:
        """How much of the data set was written."""
        return self._writer.data_bytes if self._writer is not None else 0

    def append(self, data: memoryview) -> None:
        """Writes a fragment of the data set; after a failure the fragment is passed over."""
        if self._problem is not None or self._writer is None:
            return
        if not self._head:
            self._head = bytes(data[:HEAD_BYTES])
        try:
            self._writer.write(data)
        except SpoolError as error:
            self._fail(StoreStatus.OUT_OF_RESOURCES, str(error))

    def finish(self) -> tuple[StoreStatus, str]:
        """Makes the instance durable, tells the main process, and gives the status with a comment.

        Raises:
            MainProcessGoneError: the sender must not hear of success.
        """
        raised: Exception | None = None
        try:
            status, comment = self._finish()
        except MainProcessGoneError:
            raise
        except OSError as error:
            raised, status = error, StoreStatus.OUT_OF_RESOURCES
            comment = f"{error.strerror or 'The disk refused'}."
        except Exception as error:  # noqa: BLE001 - the sender must hear of it, whatever happened
            raised, status = error, StoreStatus.PROCESSING_FAILURE
            comment = "Something unforeseen went wrong in the receiver."
        if status is not StoreStatus.SUCCESS:
            self.discard()
            self._facilities.tell(
                InstanceRefused(
                    status=f"{int(status):04X}",
                    problem=comment,
                    instance_uid_hash=hashed(self._command.sop_instance_uid),
                    peer=self._sender.ae_title,
                    raised="" if raised is None else type(raised).__name__,
                )
            )
        return status, comment

    def discard(self) -> None:
        """Gives the instance up; nothing is left of it."""
        if self._writer is not None:
            self._writer.discard()

    def _finish(self) -> tuple[StoreStatus, str]:
        if self._problem is not None or self._writer is None:
            return self._problem or (StoreStatus.OUT_OF_RESOURCES, "")
        try:
            scanned = scan_written(self._head, self._writer, self._syntax, self._facilities.scheme)
        except ScanError as error:
            return StoreStatus.CANNOT_UNDERSTAND, str(error)
        # Of several values the library would make something else.
        wrong = [
            name
            for keyword, name in _UIDS.items()
            if isinstance(scanned.values.get(keyword), list) or not is_uid(scanned.text(keyword))
        ]
        if wrong:
            return StoreStatus.CANNOT_UNDERSTAND, f"No valid UID of {', '.join(wrong)}."
        self.study_uid = scanned.text("StudyInstanceUID")
        command = self._command
        uids = (command.sop_class_uid, command.sop_instance_uid)
        if (scanned.text("SOPClassUID"), scanned.text("SOPInstanceUID")) != uids:
            problem = "The SOP class or instance UID is not the one in the command."
            return StoreStatus.DATA_SET_MISMATCH, problem
        if self._sender.conflicts == REFUSE and self._facilities.is_conflict(
            command.sop_instance_uid, self._writer.data_digest, self._syntax
        ):
            return StoreStatus.DUPLICATE_INSTANCE, "Another instance is known under this UID."
        try:
            file = self._writer.commit(FileMeta(*uids, self._syntax, self._sender.ae_title))
        except SpoolError as error:
            return StoreStatus.OUT_OF_RESOURCES, str(error)
        sender = self._sender
        self._facilities.tell(
            stored(
                file,
                scanned,
                peer=sender.peer,
                priority=sender.priority,
                association=sender.association,
            )
        )
        return StoreStatus.SUCCESS, ""

    def _fail(self, status: StoreStatus, problem: str) -> None:
        self._problem = (status, problem)
        self.discard()

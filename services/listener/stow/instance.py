"""One part of a request on its way to the disk: a DICOM file becomes an instance in the spool.

What it must be and how it is made durable is as for C-STORE (services.listener.door.store); the
identity is the data set's, and a part that is not stored never keeps its neighbours from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from services.common.header_scan import ScanError
from services.common.identity import is_uid
from services.common.part10_head import HeadError, Part10Head, read_head
from services.listener.door.admission import REFUSE, PeerRule
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import SpoolError, SpoolWriter
from services.listener.door.store import Facilities
from services.listener.door.stored import HEAD_BYTES, scan_written, stored
from services.listener.peers.policies import title_of
from services.listener.stow.multipart import MultipartError, parse_media_type
from services.listener.stow.response import Failed, FailureReason, PartOutcome, Stored

DICOM_TYPE = "application/dicom"


@dataclass(frozen=True, slots=True)
class StowTerms:
    """What holds for every instance of a request.

    Attributes:
        facilities: the spool, what is read of heads, and who hears of stored instances.
        contexts: SOP class -> transfer syntaxes that are accepted for it.
        peer: who sends.
        study_uid: the study that the path names; empty when the path names none.
        request: the request's name among all that are served.
    """

    facilities: Facilities
    contexts: Mapping[str, tuple[str, ...]]
    peer: PeerRule
    study_uid: str = ""
    request: str = ""


class PartReception:
    """A part: data is appended as it arrives, `finish` says what became of it.

    Args:
        headers: the part's, by names in lower case.
    """

    def __init__(self, terms: StowTerms, headers: Mapping[str, str]) -> None:
        self._terms = terms
        self._begun = bytearray()  # until the data set begins
        self._head: Part10Head | None = None
        self._first = b""  # of the data set
        self._writer: SpoolWriter | None = None
        self._failed: Failed | None = None
        self._syntax = ""
        self._look_at(headers)

    def append(self, data: memoryview) -> None:
        """Takes the next bytes of the part; after a failure they are passed over."""
        if self._failed is not None:
            return
        if self._head is None:
            self._begun += data
            self._open(complete=False)
        else:
            self._write(data)

    def finish(self) -> PartOutcome:
        """Makes the instance durable and tells the main process."""
        if self._head is None and self._failed is None:
            self._open(complete=True)
        if self._failed is None:
            outcome = self._commit()
            if isinstance(outcome, Stored):
                return outcome
            self._failed = outcome
        self.discard()
        assert self._failed is not None
        return self._failed

    def discard(self) -> None:
        """Gives the part up; nothing is left of it."""
        if self._writer is not None:
            self._writer.discard()

    def _look_at(self, headers: Mapping[str, str]) -> None:
        try:
            media = parse_media_type(headers.get("content-type", DICOM_TYPE))
        except MultipartError as error:
            return self._fail(FailureReason.CANNOT_UNDERSTAND, str(error))
        if media.name != DICOM_TYPE:
            return self._fail(FailureReason.CANNOT_UNDERSTAND, "The part is no application/dicom.")
        self._syntax = media.parameters.get("transfer-syntax", "")
        return None

    def _open(self, *, complete: bool) -> None:
        try:
            head = read_head(bytes(self._begun), complete=complete)
        except HeadError as error:
            return self._fail(FailureReason.CANNOT_UNDERSTAND, str(error))
        if head is None:
            return None
        self._head = head
        if self._syntax not in ("", "*", head.transfer_syntax_uid):
            problem = "The transfer syntax in the part's header is not the file's."
            return self._fail(FailureReason.CANNOT_UNDERSTAND, problem)
        spool = self._terms.facilities.spool
        try:
            if spool.free_bytes() < self._terms.facilities.watermark_bytes:
                return self._fail(FailureReason.OUT_OF_RESOURCES, "The disk is nearly full.")
            self._writer = spool.begin()
        except (OSError, SpoolError) as error:
            return self._fail(FailureReason.OUT_OF_RESOURCES, str(error))
        with memoryview(self._begun) as begun, begun[head.data_set_at :] as rest:
            self._write(rest)
        self._begun = bytearray()
        return None

    def _write(self, data: memoryview) -> None:
        assert self._writer is not None
        if len(self._first) < HEAD_BYTES:
            self._first += data[: HEAD_BYTES - len(self._first)]
        try:
            self._writer.write(data)
        except SpoolError as error:
            self._fail(FailureReason.OUT_OF_RESOURCES, str(error), too_large=error.too_large)

    def _commit(self) -> PartOutcome:
        assert self._head is not None
        assert self._writer is not None
        head, terms = self._head, self._terms
        try:
            scanned = scan_written(
                self._first, self._writer, head.transfer_syntax_uid, terms.facilities.scheme
            )
        except ScanError as error:
            return self._failure(FailureReason.CANNOT_UNDERSTAND, str(error))
        uids = {name: scanned.text(name) for name in _UIDS}
        # Several values are none either: which of them the file is found by is not for us to guess.
        wrong = [
            name
            for name, uid in uids.items()
            if not is_uid(uid) or isinstance(scanned.values[name], list)
        ]
        if wrong:
            problem = f"No valid {', '.join(wrong)}."
            return self._failure(FailureReason.CANNOT_UNDERSTAND, problem)
        sop_class, sop_instance, study, series = uids.values()
        named = (sop_class, sop_instance)
        problem = self._mismatch(*named, study)
        if problem:
            return Failed(FailureReason.DATA_SET_MISMATCH, problem, *named)
        syntaxes = terms.contexts.get(sop_class)
        if syntaxes is None:
            problem = "The SOP class is not accepted."
            return Failed(FailureReason.SOP_CLASS_NOT_SUPPORTED, problem, *named)
        if head.transfer_syntax_uid not in syntaxes:
            problem = "The transfer syntax is not accepted."
            return Failed(FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED, problem, *named)
        if terms.peer.conflicts == REFUSE and terms.facilities.is_conflict(
            sop_instance, self._writer.data_digest, head.transfer_syntax_uid
        ):
            problem = "Another instance is known under this UID."
            return Failed(FailureReason.DUPLICATE_INSTANCE, problem, *named)
        # HTTP has no AE title: the peer's own, or its name, stands for one.
        title = terms.peer.ae_titles[0] if terms.peer.ae_titles else title_of(terms.peer.name)
        meta = FileMeta(*named, head.transfer_syntax_uid, title)
        size = self._writer.data_bytes
        try:
            file = self._writer.commit(meta)
        except SpoolError as error:
            return Failed(FailureReason.OUT_OF_RESOURCES, str(error), *named)
        terms.facilities.tell(
            stored(
                file,
                scanned,
                peer=terms.peer.name,
                priority=terms.peer.priority,
                association=terms.request,
            )
        )
        return Stored(*named, series, study, size)

    def _mismatch(self, sop_class: str, sop_instance: str, study: str) -> str:
        assert self._head is not None
        if self._terms.study_uid not in ("", study):
            return "The study is not the one in the path."
        if self._head.sop_class_uid not in ("", sop_class):
            return "The SOP class is not the one in the file meta information."
        if self._head.sop_instance_uid not in ("", sop_instance):
            return "The SOP instance UID is not the one in the file meta information."
        return ""

    def _fail(self, reason: FailureReason, problem: str, *, too_large: bool = False) -> None:
        self._failed = replace(self._failure(reason, problem), too_large=too_large)
        self.discard()

    def _failure(self, reason: FailureReason, problem: str) -> Failed:
        # As far as is known which instance it is; nothing but UIDs ever gets into the answer.
        head = self._head
        return Failed(
            reason,
            problem,
            head.sop_class_uid if head is not None else "",
            head.sop_instance_uid if head is not None else "",
        )


_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

"""The audit trail: who came, what was transferred, accessed and deleted (docs/audit.md).

Events speak IHE ATNA's vocabulary: the audit message of PS3.15 A.5 with its codes, as a line of
JSON instead of XML. A line is on disk when `audit` returns. There is no patient data in it;
studies are named by their UIDs, which a setting replaces by hashes where trails leave the site.
"""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.common.durable import make_folder, sync_folder
from services.common.identity import IMPLEMENTATION_VERSION_NAME, hashed
from services.common.settings import AuditSettings
from services.common.telemetry.logs import get_logger
from services.common.telemetry.metrics import AUDIT_EVENTS, AUDIT_EVENTS_LOST

_log = get_logger("common")

# NetworkAccessPointTypeCode (PS3.15 A.5.2.4): an IP address.
_BY_ADDRESS = "2"
# AuditSourceTypeCode (RFC 3881 5.4.3): an application server process.
_SERVER_PROCESS = "4"


class AuditEvent(StrEnum):
    """What is audited."""

    APPLICATION_STARTED = "application_started"
    APPLICATION_STOPPED = "application_stopped"
    ASSOCIATION_ACCEPTED = "association_accepted"
    ASSOCIATION_ENDED = "association_ended"
    ASSOCIATION_REJECTED = "association_rejected"
    INSTANCES_RECEIVED = "instances_received"
    INSTANCE_CONFLICTING = "instance_conflicting"
    INSTANCES_SENT = "instances_sent"
    INSTANCES_ACCESSED = "instances_accessed"
    STUDY_DELETED = "study_deleted"
    SECURITY_ALERT = "security_alert"


class EventOutcome(IntEnum):
    """EventOutcomeIndicator (PS3.15 table A.5.2-1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True, slots=True)
class Code:
    """A code of the DICOM controlled terminology (PS3.16 annex D)."""

    value: str
    meaning: str

    def as_json(self) -> dict[str, str]:
        """The attributes of an audit message's coded value."""
        return {"csd-code": self.value, "codeSystemName": "DCM", "originalText": self.meaning}


@dataclass(frozen=True, slots=True)
class Kind:
    """How an event is said in the standard's vocabulary.

    Attributes:
        event_id: CID 400; event_type: CID 401, None where the standard has none.
        action: EventActionCode, C create, R read, D delete, E execute.
        outcome: where the caller names none.
    """

    event_id: Code
    event_type: Code | None
    action: str
    outcome: EventOutcome = EventOutcome.SUCCESS


_APPLICATION = Code("110100", "Application Activity")
_ACCESSED = Code("110103", "DICOM Instances Accessed")
_TRANSFERRED = Code("110104", "DICOM Instances Transferred")
_DELETED = Code("110105", "DICOM Study Deleted")
_ALERT = Code("110113", "Security Alert")
_AUTHENTICATION = Code("110114", "User Authentication")
_NODE = Code("110126", "Node Authentication")
_DESTINATION = Code("110152", "Destination Role ID")
_SOURCE = Code("110153", "Source Role ID")
_STUDY_UID = Code("110180", "Study Instance UID")

# A.5.3. The standard has no message for associations: a peer that is let in is a process that
# logs in (A.5.3.13), one that is turned away is ATNA's node authentication failure (A.5.3.11).
KINDS: Mapping[AuditEvent, Kind] = MappingProxyType(
    {
        AuditEvent.APPLICATION_STARTED: Kind(
            _APPLICATION, Code("110120", "Application Start"), "E"
        ),
        AuditEvent.APPLICATION_STOPPED: Kind(_APPLICATION, Code("110121", "Application Stop"), "E"),
        AuditEvent.ASSOCIATION_ACCEPTED: Kind(_AUTHENTICATION, Code("110122", "Login"), "E"),
        AuditEvent.ASSOCIATION_ENDED: Kind(_AUTHENTICATION, Code("110123", "Logout"), "E"),
        AuditEvent.ASSOCIATION_REJECTED: Kind(_ALERT, _NODE, "E", EventOutcome.MINOR_FAILURE),
        AuditEvent.INSTANCES_RECEIVED: Kind(_TRANSFERRED, None, "C"),
        AuditEvent.INSTANCE_CONFLICTING: Kind(_TRANSFERRED, None, "C", EventOutcome.MINOR_FAILURE),
        AuditEvent.INSTANCES_SENT: Kind(_TRANSFERRED, None, "R"),
        AuditEvent.INSTANCES_ACCESSED: Kind(_ACCESSED, None, "R"),
        AuditEvent.STUDY_DELETED: Kind(_DELETED, None, "D"),
        AuditEvent.SECURITY_ALERT: Kind(_ALERT, _NODE, "E", EventOutcome.SERIOUS_FAILURE),
    }
)
# What comes to us, and what goes from us: who is the source and who the destination.
_INWARD = frozenset({AuditEvent.INSTANCES_RECEIVED, AuditEvent.INSTANCE_CONFLICTING})
_OUTWARD = frozenset({AuditEvent.INSTANCES_SENT})


@dataclass(frozen=True, slots=True)
class Audited:
    """What is said of an event; whatever does not apply stays empty.

    Attributes:
        outcome: None stands for the event's usual outcome.
        reason: a code of ours that says why, for instance of a rejection.
        peer: the other side's name in the settings; ae_title, address: how it called.
        certificate_sha256: of the certificate that the peer showed.
        own_ae_title: the title of ours that was called.
        study_uid: the study concerned.
        instances: how many of its instances, by SOP class UID.
    """

    outcome: EventOutcome | None = None
    reason: str = ""
    peer: str = ""
    ae_title: str = ""
    address: str = ""
    certificate_sha256: str = ""
    own_ae_title: str = ""
    study_uid: str = ""
    instances: Mapping[str, int] = field(default_factory=dict[str, int])


class AuditTrail:
    """The audit file of one service, ``<folder>/<service>.jsonl``; for one process, many threads.

    Nothing is written, and no folder made, before the first event.
    """

    def __init__(
        self,
        service: str,
        folder: Path,
        settings: AuditSettings,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._service = service
        self._path = folder / f"{service}.jsonl"
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._descriptor = -1
        self._size = 0

    def write(self, event: AuditEvent, audited: Audited) -> None:
        """Writes an event; the event is on disk on return.

        Raises:
            OSError: the disk refused the event.
        """
        with self._lock:
            message = compose(
                event,
                audited,
                service=self._service,
                at=self._clock(),
                hash_uids=self._settings.hash_uids,
            )
            line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._make_room(len(line))
            self._append(line)

    def close(self) -> None:
        """Closes the file; the next event opens the file again."""
        with self._lock:
            self._close()

    def _make_room(self, length: int) -> None:
        if self._descriptor < 0:
            self._open()
        if self._size and self._size + length > self._settings.max_file_bytes:
            self._close()
            self._path.rename(self._numbered(max(self._numbers(), default=0) + 1))
            self._open()
            for number in sorted(self._numbers())[: -self._settings.keep_files]:
                self._numbered(number).unlink()

    def _append(self, line: bytes) -> None:
        written = os.write(self._descriptor, line)
        if written < len(line):
            os.ftruncate(self._descriptor, self._size)  # half a line would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += written
        os.fdatasync(self._descriptor)

    def _open(self) -> None:
        make_folder(self._path.parent)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            # A power cut tore the last line apart: the next one begins on its own.
            self._size += os.write(self._descriptor, b"\n")
        sync_folder(self._path.parent)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._service}.{number:06d}.jsonl")

    def _numbers(self) -> list[int]:
        middles = (
            file.name.removeprefix(f"{self._service}.").removesuffix(".jsonl")
            for file in self._path.parent.glob(f"{self._service}.*.jsonl")
        )
        return [int(middle) for middle in middles if middle.isdigit()]


_trail: AuditTrail | None = None


def setup_audit(service: str, folder: Path, settings: AuditSettings) -> None:
    """Says where this process's events go."""
    global _trail
    if _trail is not None:
        _trail.close()
    _trail = AuditTrail(service, folder, settings)


def audit(event: AuditEvent, **values: Any) -> None:
    """Audits an event: ``audit(AuditEvent.STUDY_DELETED, study_uid=..., reason="age")``.

    An event that the disk does not take is an error in the log and a count, and nothing more: a
    full disk must not keep a study from being read.

    Args:
        values: the fields of `Audited`.

    Raises:
        TypeError: a value that `Audited` does not know.
    """
    audited = Audited(**values)
    AUDIT_EVENTS.labels(event).inc()
    if _trail is None:
        return  # a tool or a test: nothing that has a trail
    try:
        _trail.write(event, audited)
    except OSError as error:
        AUDIT_EVENTS_LOST.inc()
        _log.error("audit_not_written", audit_event=event, problem=error.strerror)


def compose(
    event: AuditEvent, audited: Audited, *, service: str, at: dt.datetime, hash_uids: bool = False
) -> dict[str, Any]:
    """The audit message of PS3.15 A.5.2, with its names of elements and attributes."""
    kind = KINDS[event]
    identification: dict[str, Any] = {
        "EventID": kind.event_id.as_json(),
        "EventActionCode": kind.action,
        "EventDateTime": at.astimezone(dt.UTC).isoformat(timespec="milliseconds"),
        "EventOutcomeIndicator": int(kind.outcome if audited.outcome is None else audited.outcome),
    }
    if audited.reason:
        identification["EventOutcomeDescription"] = audited.reason
    if kind.event_type is not None:
        identification["EventTypeCode"] = kind.event_type.as_json()
    message: dict[str, Any] = {
        "event": str(event),
        "EventIdentification": identification,
        "ActiveParticipant": _participants(event, audited, service),
        "AuditSourceIdentification": {
            "AuditSourceID": f"{service}@{socket.gethostname()}",
            "AuditSourceTypeCode": _SERVER_PROCESS,
        },
    }
    if audited.study_uid:
        message["ParticipantObjectIdentification"] = [_study(audited, hash_uids)]
    return message


def _participants(event: AuditEvent, audited: Audited, service: str) -> list[dict[str, Any]]:
    ours: dict[str, Any] = {
        "UserID": f"{IMPLEMENTATION_VERSION_NAME} {service}",
        "UserIsRequestor": event not in _INWARD and not audited.peer and not audited.ae_title,
    }
    if audited.own_ae_title:
        ours["AlternativeUserID"] = f"AETITLES={audited.own_ae_title}"
    if not (audited.peer or audited.ae_title or audited.address):
        return [ours]
    theirs: dict[str, Any] = {
        "UserID": audited.peer or audited.ae_title or audited.address,
        "UserIsRequestor": event not in _OUTWARD,
    }
    ours["UserIsRequestor"] = not theirs["UserIsRequestor"]
    if audited.ae_title:
        theirs["AlternativeUserID"] = f"AETITLES={audited.ae_title}"
    if audited.certificate_sha256:
        theirs["CertificateSHA256"] = audited.certificate_sha256
    if audited.address:
        theirs["NetworkAccessPointID"] = audited.address
        theirs["NetworkAccessPointTypeCode"] = _BY_ADDRESS
    if event in _INWARD | _OUTWARD:
        inward = event in _INWARD
        theirs["RoleIDCode"] = (_SOURCE if inward else _DESTINATION).as_json()
        ours["RoleIDCode"] = (_DESTINATION if inward else _SOURCE).as_json()
    return [theirs, ours]


def _study(audited: Audited, hash_uids: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "ParticipantObjectTypeCode": "2",  # system object
        "ParticipantObjectTypeCodeRole": "3",  # report: what A.5.3 uses for studies
        "ParticipantObjectIDTypeCode": _STUDY_UID.as_json(),
        "ParticipantObjectID": hashed(audited.study_uid) if hash_uids else audited.study_uid,
    }
    if audited.instances:
        described["ParticipantObjectDescription"] = {
            "SOPClass": [
                {"UID": uid, "NumberOfInstances": count}
                for uid, count in sorted(audited.instances.items())
            ]
        }
    return described

"""What receivers say of associations and refusals, written where it belongs: log, counters, audit
trail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import (
    ASSOCIATIONS_OPEN,
    ASSOCIATIONS_REJECTED,
    INSTANCES_RECEIVED,
)
from services.listener.door.messages import (
    AssociationClosed,
    AssociationMalformed,
    AssociationOpened,
    AssociationRejected,
    AssociationsAborted,
    ConnectionFailed,
    DoorEvent,
    InstanceRefused,
    TlsFilesChanged,
    TlsRefused,
    Unknown,
)

_log = get_logger("listener")


class DoorEvents:
    """Writes down what receivers say.

    Args:
        own_ae_title: ours, for the audit trail.
        open_associations: how many there are now.
    """

    def __init__(self, own_ae_title: str, open_associations: Callable[[], int]) -> None:
        self._own_ae_title = own_ae_title
        self._open_associations = open_associations

    def note(self, event: DoorEvent | Unknown) -> None:
        """Writes one event down; of a message of another version, the message's name there."""
        match event:
            case AssociationOpened():
                self._opened(event)
            case AssociationClosed():
                self._closed(event)
            case AssociationRejected():
                self._rejected(event)
            case AssociationMalformed():
                _log.warning("association_malformed", **asdict(event))
            case AssociationsAborted(associations):
                _log.warning("associations_aborted", associations=associations)
            case ConnectionFailed(problem):
                _log.warning("connection_failed", problem=problem)
            case InstanceRefused():
                INSTANCES_RECEIVED.labels("refused").inc()
                _log.warning("instance_refused", **asdict(event))
            case TlsRefused():
                self._tls_refused(event)
            case TlsFilesChanged(None):
                _log.warning("tls_files_loaded")
            case TlsFilesChanged(problem):
                _log.warning("tls_files_refused", problem=problem)
            case Unknown(kind):
                _log.error("receiver_message_unknown", message=kind)

    def count(self) -> None:
        """Sets the gauge of open associations: a receiver that died took its own with it."""
        ASSOCIATIONS_OPEN.set(self._open_associations())

    def _opened(self, event: AssociationOpened) -> None:
        self.count()
        audit(
            AuditEvent.ASSOCIATION_ACCEPTED,
            own_ae_title=self._own_ae_title,
            peer=event.peer,
            ae_title=event.ae_title,
            address=event.address,
            certificate_sha256=event.certificate_sha256,
        )

    def _closed(self, event: AssociationClosed) -> None:
        self.count()
        _log.info(
            "association_closed",
            association=event.association,
            peer=event.peer,
            ae_title=event.ae_title,
            address=event.address,
            secure=event.secure,
            instances=event.instances,
            bytes=event.data_bytes,
            seconds=event.seconds,
            ended=event.ended,
            within=event.within,
        )
        who = {"peer": event.peer, "ae_title": event.ae_title, "address": event.address}
        for study_uid, by_class in event.instances_by_study.items():
            audit(
                AuditEvent.INSTANCES_RECEIVED,
                own_ae_title=self._own_ae_title,
                study_uid=study_uid,
                instances=by_class,
                **who,
            )
        audit(
            AuditEvent.ASSOCIATION_ENDED,
            own_ae_title=self._own_ae_title,
            reason=event.ended,
            **who,
        )

    def _rejected(self, event: AssociationRejected) -> None:
        ASSOCIATIONS_REJECTED.labels(event.reason).inc()
        _log.warning("association_rejected", **asdict(event))
        audit(
            AuditEvent.ASSOCIATION_REJECTED,
            reason=event.reason,
            own_ae_title=event.called_ae_title,
            ae_title=event.ae_title,
            address=event.address,
        )

    def _tls_refused(self, event: TlsRefused) -> None:
        ASSOCIATIONS_REJECTED.labels("tls_handshake").inc()
        _log.warning("tls_refused", **asdict(event))
        audit(
            AuditEvent.SECURITY_ALERT,
            reason=f"tls_{event.reason}",
            own_ae_title=self._own_ae_title,
            address=event.address,
        )

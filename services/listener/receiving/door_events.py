"""What receivers tell of, said where it belongs: log, counters, audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import (
    ASSOCIATIONS_OPEN,
    ASSOCIATIONS_REJECTED,
    INSTANCES_RECEIVED,
)

_log = get_logger("listener")


class DoorEvents:
    """Takes the receivers' ``event`` messages.

    Args:
        own_ae_title: ours, for the audit trail.
        open_associations: how many there are now.
    """

    def __init__(self, own_ae_title: str, open_associations: Callable[[], int]) -> None:
        self._own_ae_title = own_ae_title
        self._open_associations = open_associations

    def take(self, message: Mapping[str, Any]) -> None:
        """Says one event. An event that a newer receiver invents is logged as it is."""
        values = {key: value for key, value in message.items() if key not in ("type", "event")}
        event = str(message["event"])
        say = getattr(self, f"_{event}", None)
        if say is None:
            _log.warning(event, **values)
        else:
            say(values)

    def count(self) -> None:
        """Tells the metrics how many associations are open: a receiver that died took its own."""
        ASSOCIATIONS_OPEN.set(self._open_associations())

    def _association_opened(self, values: dict[str, Any]) -> None:
        self.count()
        audit(
            AuditEvent.ASSOCIATION_ACCEPTED,
            own_ae_title=self._own_ae_title,
            **_who(values),
        )

    def _association_closed(self, values: dict[str, Any]) -> None:
        self.count()
        instances: dict[str, dict[str, int]] = values.pop("instances_by_study", {})
        _log.info("association_closed", **values)
        for study_uid, by_class in instances.items():
            audit(
                AuditEvent.INSTANCES_RECEIVED,
                own_ae_title=self._own_ae_title,
                study_uid=study_uid,
                instances=by_class,
                **_who(values),
            )
        audit(
            AuditEvent.ASSOCIATION_ENDED,
            own_ae_title=self._own_ae_title,
            reason=values["ended"],
            **_who(values),
        )

    def _association_rejected(self, values: dict[str, Any]) -> None:
        ASSOCIATIONS_REJECTED.labels(values["reason"]).inc()
        _log.warning("association_rejected", **values)
        audit(
            AuditEvent.ASSOCIATION_REJECTED,
            reason=values["reason"],
            own_ae_title=values["called_ae_title"],
            ae_title=values["ae_title"],
            address=values["address"],
        )

    def _tls_refused(self, values: dict[str, Any]) -> None:
        ASSOCIATIONS_REJECTED.labels("tls_handshake").inc()
        _log.warning("tls_refused", **values)
        audit(
            AuditEvent.SECURITY_ALERT,
            reason=f"tls_{values['reason']}",
            own_ae_title=self._own_ae_title,
            address=values["address"],
        )

    def _instance_refused(self, values: dict[str, Any]) -> None:
        INSTANCES_RECEIVED.labels("refused").inc()
        _log.warning("instance_refused", **values)


def _who(values: Mapping[str, Any]) -> dict[str, Any]:
    names = ("peer", "ae_title", "address", "certificate_sha256")
    return {name: values[name] for name in names if values.get(name)}

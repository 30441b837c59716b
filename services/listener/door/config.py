"""What a receiver is told at its start: one JSON document from the main process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.header_scan import Scheme
from services.listener.door.admission import AdmissionRules


@dataclass(frozen=True, slots=True)
class DoorConfig:
    """All that a receiver depends on.

    Attributes:
        contexts: abstract syntax -> transfer syntaxes that are accepted for it.
        spool: the folder that this receiver writes into.
        watermark_bytes: with less space left on the spool's disk no instance is accepted.
        max_pdu_bytes: the longest P-DATA-TF body that is accepted.
        request_timeout_s: until the association is asked for, and until a connection that is
            over is closed (ARTIM, PS3.8 9.1.5).
        idle_timeout_s: an association without traffic for this long is aborted.
        handshake_timeout_s: a TLS handshake that lasts longer is given up.
        tls: what `tls.TlsFiles` is made of; None without TLS.
    """

    admission: AdmissionRules
    scheme: Scheme
    contexts: Mapping[str, tuple[str, ...]]
    spool: str
    watermark_bytes: int
    max_pdu_bytes: int
    max_instance_bytes: int
    request_timeout_s: float
    idle_timeout_s: float
    handshake_timeout_s: float = 10.0
    tls: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "admission": self.admission.as_json(),
            "scheme": self.scheme.as_json(),
            "contexts": {uid: list(syntaxes) for uid, syntaxes in self.contexts.items()},
            "spool": self.spool,
            "watermark_bytes": self.watermark_bytes,
            "max_pdu_bytes": self.max_pdu_bytes,
            "max_instance_bytes": self.max_instance_bytes,
            "request_timeout_s": self.request_timeout_s,
            "idle_timeout_s": self.idle_timeout_s,
            "handshake_timeout_s": self.handshake_timeout_s,
            "tls": None if self.tls is None else dict(self.tls),
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> DoorConfig:
        """Back from the document."""
        values: dict[str, Any] = {
            **told,
            "admission": AdmissionRules.from_json(told["admission"]),
            "scheme": Scheme.from_json(told["scheme"]),
            "contexts": {uid: tuple(names) for uid, names in told["contexts"].items()},
        }
        return cls(**values)

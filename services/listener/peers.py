"""Who may send: from the settings to the plain values by which the doors decide."""

from __future__ import annotations

from services.common.settings import ListenerSettings, Peer, TlsSettings
from services.listener.door.admission import (
    PRIORITIES,
    AdmissionRules,
    AssociationRequest,
    PeerRule,
    Rejection,
)
from services.listener.door.admission import admit as _admit
from services.listener.door.tls import TlsFiles

__all__ = [
    "AdmissionRules",
    "AssociationRequest",
    "PeerRule",
    "Rejection",
    "admission_rules",
    "admit",
    "higher_priority",
    "known_peer",
    "peer_rule",
    "tls_files",
]


def admission_rules(settings: ListenerSettings) -> AdmissionRules:
    """The settings of the door as plain values."""
    return AdmissionRules(
        ae_title=settings.ae_title.strip(),
        peers=tuple(peer_rule(peer) for peer in settings.peers),
        accept_unknown_peers=settings.accept_unknown_peers,
        max_associations=settings.max_associations,
    )


def peer_rule(peer: Peer) -> PeerRule:
    """A configured peer as plain values."""
    return PeerRule(
        name=peer.name,
        ae_titles=peer.every_ae_title,
        addresses=peer.every_address,
        verbs=peer.verbs,
        tls_required=peer.tls_required,
        certificate_common_name=peer.certificate_common_name,
        certificate_sha256=peer.certificate_sha256,
        priority=peer.priority,
        quiet_period_s=peer.quiet_period_s,
        max_associations=peer.max_associations,
    )


def tls_files(settings: TlsSettings) -> TlsFiles:
    """The files of a door with TLS; the settings hold that they are named where one is opened."""
    assert settings.certificate is not None
    assert settings.key is not None
    assert settings.trusted_certificates is not None
    revoked = settings.revocation_list
    return TlsFiles(
        certificate=str(settings.certificate),
        key=str(settings.key),
        trusted_certificates=str(settings.trusted_certificates),
        revocation_list=None if revoked is None else str(revoked),
        profile=settings.profile,
    )


def admit(request: AssociationRequest, settings: ListenerSettings) -> Rejection | None:
    """Whether the association is served: None when it is, else why not."""
    decided = _admit(request, admission_rules(settings))
    return decided if isinstance(decided, Rejection) else None


def known_peer(request: AssociationRequest, settings: ListenerSettings) -> PeerRule | None:
    """The configured peer that this request is served for; None when it is none of them."""
    rules = admission_rules(settings)
    decided = _admit(request, rules)
    return next((peer for peer in rules.peers if peer == decided), None)


def higher_priority(one: str, other: str) -> str:
    """The higher of two priorities: a study keeps the highest of its senders'."""
    return min(one, other, key=PRIORITIES.index)

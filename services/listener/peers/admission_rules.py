"""Who may send: from the settings to the plain values by which the doors decide."""

from __future__ import annotations

from services.common.settings import ListenerSettings, Peer, TlsSettings
from services.dimse.tls import TlsFiles
from services.listener.door.admission import AdmissionRules, PeerRule


def admission_rules(settings: ListenerSettings) -> AdmissionRules:
    """The settings of the door as plain values."""
    return AdmissionRules(
        ae_title=settings.ae_title.strip(),
        peers=tuple(peer_rule(peer, settings.conflicts) for peer in settings.peers),
        accept_unknown_peers=settings.accept_unknown_peers,
        max_associations=settings.max_associations,
        conflicts=settings.conflicts,
    )


def peer_rule(peer: Peer, conflicts: str = "keep_first") -> PeerRule:
    """A configured peer as plain values.

    Args:
        conflicts: the listener's policy, for a peer without its own.
    """
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
        conflicts=peer.conflicts or conflicts,
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

"""Who may send: the decision on an association or an HTTP request, as pure functions.

The rules are plain values made from the settings (services.listener.peers.admission_rules), so that
receiving processes need nothing but Python's standard library. The order of the questions is part
of the rule: the called title first, so that a caller who does not even know our name learns nothing
of our peers; then who it is; then whether there is room.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from services.dimse.tls import PeerCertificate

VERIFICATION = "1.2.840.10008.1.1"
ECHO, STORE, STOW = "echo", "store", "stow"
EVERY_VERB = (ECHO, STORE, STOW)
# Of the policies on conflicts, the one that the door has to know.
REFUSE = "refuse"
# The highest first; a study keeps the highest of its senders'.
PRIORITIES = ("high", "normal", "low")

# What a host name means at the moment, as IP addresses in text.
Resolve = Callable[[str], Iterable[str]]
_IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
# IPv4 senders reach a dual-stack socket as ::ffff:192.0.2.1 (RFC 4291 2.5.5.2).
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Rejection(Enum):
    """Why an association is rejected: name, and result, source, reason of PS3.8 table 9-21.

    Several of our reasons are one reason of the standard's: the caller is told no more than that,
    the log, the audit trail and the counter say which.
    """

    CALLED_AE_UNKNOWN = ("called_ae_title_not_recognised", 1, 1, 7)
    CALLING_AE_UNKNOWN = ("calling_ae_title_not_recognised", 1, 1, 3)
    TLS_REQUIRED = ("tls_required", 1, 1, 3)
    CERTIFICATE_MISMATCH = ("certificate_mismatch", 1, 1, 3)
    STOPPING = ("temporary_congestion", 2, 3, 1)
    LOCAL_LIMIT = ("local_limit_exceeded", 2, 3, 2)
    PEER_LIMIT = ("peer_limit_exceeded", 2, 3, 2)

    @property
    def reason(self) -> str:
        """The reason's name, for logs, metrics and the conformance statement."""
        return self.value[0]

    @property
    def code(self) -> tuple[int, int, int]:
        """Result, source and reason/diagnostic of the A-ASSOCIATE-RJ."""
        return self.value[1:]


@dataclass(frozen=True, slots=True)
class PeerRule:
    """A peer, as the settings describe it (services.common.settings.Peer).

    Attributes:
        addresses: IP addresses, ranges and host names; empty admits its AE titles from anywhere.
        certificate_sha256: 64 lower-case hexadecimal digits.
        quiet_period_s: None stands for the listener's.
        max_associations: None sets no limit of its own.
        conflicts: what becomes of other bytes under a known SOP Instance UID (`REFUSE`, or
            decided when the bytes are registered).
    """

    name: str
    ae_titles: tuple[str, ...]
    addresses: tuple[str, ...] = ()
    verbs: tuple[str, ...] = EVERY_VERB
    tls_required: bool = False
    certificate_common_name: str | None = None
    certificate_sha256: str | None = None
    priority: str = "normal"
    quiet_period_s: float | None = None
    max_associations: int | None = None
    conflicts: str = "keep_first"

    def may_negotiate(self, abstract_syntax: str) -> bool:
        """Whether a presentation context of that abstract syntax may be accepted from the peer.

        Where not, the answer is user-rejection (PS3.8 table 9-18, result 1).
        """
        return (ECHO if abstract_syntax == VERIFICATION else STORE) in self.verbs


@dataclass(frozen=True, slots=True)
class AdmissionRules:
    """All that admission depends on.

    Attributes:
        max_associations: open at once, in all.
        conflicts: of peers that no rule describes.
    """

    ae_title: str
    peers: tuple[PeerRule, ...] = ()
    accept_unknown_peers: bool = False
    max_associations: int = 16
    conflicts: str = "keep_first"

    def as_json(self) -> dict[str, Any]:
        """The form in which the rules go to the receiving processes."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> AdmissionRules:
        """Back from that form."""
        values = dict(document)
        values["peers"] = tuple(_peer_from_json(peer) for peer in values["peers"])
        return cls(**values)


def _peer_from_json(document: Mapping[str, Any]) -> PeerRule:
    values = dict(document)  # JSON has no tuples
    for name in ("ae_titles", "addresses", "verbs"):
        values[name] = tuple(values[name])
    return PeerRule(**values)


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an association request says, and who sent the request.

    Attributes:
        address: the sender's IP address.
        open_associations: how many associations are being served already.
        stopping: whether the listener accepts no new associations any more.
        certificate: the sender's; None without TLS.
        open_by_peer: how many associations are being served already, by the peer's name.
    """

    calling_ae_title: str
    called_ae_title: str
    address: str
    open_associations: int
    stopping: bool = False
    certificate: PeerCertificate | None = None
    open_by_peer: Mapping[str, int] = field(default_factory=dict[str, int])


def resolve(host: str) -> set[str]:
    """The addresses of a host name at the moment; none when the name does not resolve."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return set()  # a name that does not resolve is nobody's address
    return {str(entry[4][0]) for entry in found}


def admit(
    request: AssociationRequest, rules: AdmissionRules, resolve: Resolve = resolve
) -> PeerRule | Rejection:
    """The peer that the association is served for, or why the association is rejected: `identify`,
    and then `find_room`.
    """
    peer = identify(request, rules, resolve)
    if isinstance(peer, Rejection):
        return peer
    return find_room(peer, request, rules) or peer


def identify(
    request: AssociationRequest, rules: AdmissionRules, resolve: Resolve = resolve
) -> PeerRule | Rejection:
    """The peer that asks, or why the caller is no peer. May wait for a name server.

    With accept_unknown_peers, a caller that no rule describes counts as a peer of its own title
    that may do everything; a caller that a rule describes must still keep to that rule.
    """
    if request.called_ae_title.strip() != rules.ae_title.strip():
        return Rejection.CALLED_AE_UNKNOWN
    title = request.calling_ae_title.strip()
    known = [
        peer
        for peer in rules.peers
        if title in peer.ae_titles
        and (not peer.addresses or _is_among(request.address, peer.addresses, resolve))
    ]
    peer = _best(known, request.certificate)
    if peer is not None:
        return peer
    if not rules.accept_unknown_peers:
        return Rejection.CALLING_AE_UNKNOWN
    return PeerRule(name=title, ae_titles=(title,), conflicts=rules.conflicts)


def find_room(
    peer: PeerRule, request: AssociationRequest, rules: AdmissionRules
) -> Rejection | None:
    """Why there is no room for one more association of the peer; None when there is room. Waits
    for nothing, so that the call may be made while no other association is admitted.
    """
    if request.stopping:
        return Rejection.STOPPING
    if request.open_associations >= rules.max_associations:
        return Rejection.LOCAL_LIMIT
    limit = peer.max_associations
    if limit is not None and request.open_by_peer.get(peer.name, 0) >= limit:
        return Rejection.PEER_LIMIT
    return None


def admit_http(
    address: str,
    certificate: PeerCertificate | None,
    rules: AdmissionRules,
    resolve: Resolve = resolve,
) -> PeerRule | Rejection:
    """The peer that an HTTP request to store is served for, or why the request is rejected.

    HTTP has no AE titles: the address decides, and the certificate where the settings pin one.
    """
    known = [
        peer
        for peer in rules.peers
        if STOW in peer.verbs and _is_among(address, peer.addresses, resolve)
    ]
    peer = _best(known, certificate)
    if peer is not None:
        return peer
    if not rules.accept_unknown_peers:
        return Rejection.CALLING_AE_UNKNOWN
    return PeerRule(name="unknown", ae_titles=(), conflicts=rules.conflicts)


def _best(
    known: list[PeerRule], certificate: PeerCertificate | None
) -> PeerRule | Rejection | None:
    # Several rules may describe one caller, for instance with different certificates: the first
    # that it keeps to is taken, else it hears why the first one did not fit.
    first: Rejection | None = None
    for peer in known:
        problem = _tls_problem(peer, certificate)
        if problem is None:
            return peer
        first = first or problem
    return first


def _tls_problem(peer: PeerRule, certificate: PeerCertificate | None) -> Rejection | None:
    name, fingerprint = peer.certificate_common_name, peer.certificate_sha256
    if certificate is None:
        wanted = peer.tls_required or name is not None or fingerprint is not None
        return Rejection.TLS_REQUIRED if wanted else None
    if name is not None and certificate.common_name != name:
        return Rejection.CERTIFICATE_MISMATCH
    if fingerprint is not None and certificate.sha256 != fingerprint:
        return Rejection.CERTIFICATE_MISMATCH
    return None


def _is_among(address: str, addresses: tuple[str, ...], resolve: Resolve) -> bool:
    caller = _plain_address(address)
    if caller is None:
        return False
    names: list[str] = []
    for entry in addresses:
        network = _plain_network(entry)
        if network is None:
            names.append(entry)
        elif caller in network:
            return True
    # Names last: an address that is written down needs no answer from a name server.
    return any(caller == _plain_address(found) for name in names for found in resolve(name))


def _plain_address(text: str) -> _IpAddress | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])  # fe80::1%eth0
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _plain_network(text: str) -> _IpNetwork | None:
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        inner = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((inner, network.prefixlen - _MAPPED.prefixlen))
    return network

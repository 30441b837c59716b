"""Who may send: the decision on an association request, as a pure function."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from enum import Enum

from services.common.settings import ListenerSettings, Peer


class Rejection(Enum):
    """Why an association is rejected: name, and result, source, reason of PS3.8 table 9-21."""

    CALLED_AE_UNKNOWN = ("called_ae_title_not_recognised", 1, 1, 7)
    CALLING_AE_UNKNOWN = ("calling_ae_title_not_recognised", 1, 1, 3)
    STOPPING = ("temporary_congestion", 2, 3, 1)
    LOCAL_LIMIT = ("local_limit_exceeded", 2, 3, 2)

    @property
    def reason(self) -> str:
        """The reason's name, for logs, metrics and the conformance statement."""
        return self.value[0]

    @property
    def code(self) -> tuple[int, int, int]:
        """Result, source and reason/diagnostic of the A-ASSOCIATE-RJ."""
        return self.value[1:]


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """What an association request says, and where it came from.

    Attributes:
        address: the sender's IP address.
        open_associations: how many are being served already.
        stopping: whether the listener takes no new ones any more.
    """

    calling_ae_title: str
    called_ae_title: str
    address: str
    open_associations: int
    stopping: bool = False


def admit(request: AssociationRequest, settings: ListenerSettings) -> Rejection | None:
    """Whether the association is served: None when it is, else why not.

    The called title is looked at first: a caller who does not even know our name learns nothing
    about our peers.
    """
    if request.called_ae_title.strip() != settings.ae_title.strip():
        return Rejection.CALLED_AE_UNKNOWN
    if not settings.accept_unknown_peers and known_peer(request, settings) is None:
        return Rejection.CALLING_AE_UNKNOWN
    if request.stopping:
        return Rejection.STOPPING
    if request.open_associations >= settings.max_associations:
        return Rejection.LOCAL_LIMIT
    return None


def known_peer(request: AssociationRequest, settings: ListenerSettings) -> Peer | None:
    """The configured peer that this request comes from; None when it is none of them."""
    for peer in settings.peers:
        if peer.ae_title.strip() != request.calling_ae_title.strip():
            continue
        if peer.host is None or request.address in _addresses(peer.host):
            return peer
    return None


def _addresses(host: str) -> set[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return {host}  # a name that does not resolve is nobody's address
    # IPv4 senders reach a dual-stack socket as ::ffff:192.0.2.1.
    plain = {str(entry[4][0]) for entry in found}
    return plain | {f"::ffff:{address}" for address in plain}

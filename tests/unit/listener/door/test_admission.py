"""Who may send: titles, addresses, verbs, certificates and limits, as pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.common.settings import ListenerSettings, Peer
from services.dimse.tls import PeerCertificate
from services.listener.door.admission import (
    AdmissionRules,
    AssociationRequest,
    PeerRule,
    Rejection,
    admit,
    admit_http,
)
from services.listener.peers.admission_rules import admission_rules, peer_rule

CT_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
FINGERPRINT = "ab" * 32
OTHER = "cd" * 32


def rules(*peers: Peer, **changes: Any) -> AdmissionRules:
    return admission_rules(ListenerSettings(peers=peers, **changes))


def asks(
    title: str = "CT1",
    address: str = "10.1.2.3",
    certificate: PeerCertificate | None = None,
    open_associations: int = 0,
    open_by_peer: Mapping[str, int] | None = None,
) -> AssociationRequest:
    return AssociationRequest(
        title,
        "AXIAL",
        address,
        open_associations,
        certificate=certificate,
        open_by_peer=open_by_peer or {},
    )


def nobody(host: str) -> list[str]:
    raise AssertionError(f"{host} was asked for")


SCANNER = Peer(name="Scanner 1", ae_title="MR1", host="192.0.2.7")
PACS = Peer(name="PACS", ae_title="PACS")
LOOPBACK = Peer(name="Loopback", ae_title="LOCAL", host="localhost")


@pytest.mark.parametrize(
    ("calling", "called", "address", "open_associations", "expected"),
    [
        ("MR1", "AXIAL", "192.0.2.7", 0, SCANNER),
        ("MR1 ", " AXIAL", "::ffff:192.0.2.7", 0, SCANNER),
        ("PACS", "AXIAL", "203.0.113.9", 1, PACS),
        ("LOCAL", "AXIAL", "127.0.0.1", 0, LOOPBACK),
        ("MR1", "AXIAL", "192.0.2.8", 0, Rejection.CALLING_AE_UNKNOWN),
        ("MR2", "AXIAL", "192.0.2.7", 0, Rejection.CALLING_AE_UNKNOWN),
        ("mr1", "AXIAL", "192.0.2.7", 0, Rejection.CALLING_AE_UNKNOWN),
        ("MR2", "OTHER", "192.0.2.7", 0, Rejection.CALLED_AE_UNKNOWN),
        ("MR1", "OTHER", "192.0.2.7", 0, Rejection.CALLED_AE_UNKNOWN),
        ("MR1", "AXIAL", "192.0.2.7", 2, Rejection.LOCAL_LIMIT),
        ("MR2", "AXIAL", "192.0.2.7", 2, Rejection.CALLING_AE_UNKNOWN),
    ],
)
def test_admission(
    calling: str, called: str, address: str, open_associations: int, expected: Peer | Rejection
) -> None:
    decided = admit(
        AssociationRequest(calling, called, address, open_associations),
        rules(SCANNER, PACS, LOOPBACK, max_associations=2),
    )
    assert decided == (peer_rule(expected) if isinstance(expected, Peer) else expected)


def test_unknown_peers_are_served_only_where_that_is_configured() -> None:
    request = AssociationRequest("ANYONE", "AXIAL", "203.0.113.9", 0)
    assert admit(request, rules()) is Rejection.CALLING_AE_UNKNOWN
    served = admit(request, rules(accept_unknown_peers=True))
    assert served == PeerRule("ANYONE", ("ANYONE",))


def test_nobody_is_served_while_the_listener_stops() -> None:
    request = AssociationRequest("PACS", "AXIAL", "192.0.2.9", 0, stopping=True)
    assert admit(request, rules(PACS)) is Rejection.STOPPING


def test_a_host_name_that_does_not_resolve_is_nobodys_address() -> None:
    nowhere = Peer(name="x", ae_title="X", host="no-such.invalid")
    request = AssociationRequest("X", "AXIAL", "192.0.2.1", 0)
    assert admit(request, rules(nowhere)) is Rejection.CALLING_AE_UNKNOWN


@pytest.mark.parametrize(
    ("addresses", "address", "served"),
    [
        (["10.1.0.0/16"], "10.1.255.255", True),
        (["10.1.0.0/16"], "10.2.0.0", False),
        (["10.1.0.0/16"], "::ffff:10.1.0.1", True),
        (["10.1.0.0/16"], "::10.1.0.1", False),
        (["::ffff:10.1.0.0/112"], "10.1.0.1", True),
        (["::ffff:10.1.0.1"], "10.1.0.1", True),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.70", False),
        (["192.0.2.7", "198.51.100.0/24"], "198.51.100.9", True),
        (["2001:db8::/32"], "2001:db8:1::5", True),
        (["2001:db8::/32"], "2001:db9::5", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "203.0.113.5", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        ([], "203.0.113.5", True),
        (["192.0.2.7"], "", False),
        (["192.0.2.7"], "/run/socket", False),
    ],
)
def test_addresses_and_ranges(addresses: list[str], address: str, served: bool) -> None:
    peer = Peer(name="CT", ae_title="CT1", addresses=tuple(addresses))
    decided = admit(asks(address=address), rules(peer), nobody)
    assert decided == (peer_rule(peer) if served else Rejection.CALLING_AE_UNKNOWN)


def test_host_names_are_resolved_when_somebody_calls() -> None:
    places = {"ct.hospital.example": ["192.0.2.7", "2001:db8::7"]}
    peer = Peer(name="CT", ae_title="CT1", host="ct.hospital.example", addresses=("10.0.0.0/8",))

    def resolve(host: str) -> list[str]:
        return places[host]

    assert admit(asks(address="::ffff:192.0.2.7"), rules(peer), resolve) == peer_rule(peer)
    assert admit(asks(address="2001:db8::7"), rules(peer), resolve) == peer_rule(peer)
    assert admit(asks(address="192.0.2.8"), rules(peer), resolve) is Rejection.CALLING_AE_UNKNOWN
    places["ct.hospital.example"] = ["192.0.2.8"]
    assert admit(asks(address="192.0.2.8"), rules(peer), resolve) == peer_rule(peer)


def test_an_address_that_is_written_down_waits_for_no_name_server() -> None:
    peer = Peer(name="CT", ae_title="CT1", addresses=("slow.example", "10.1.0.0/16"))
    assert admit(asks(), rules(peer), nobody) == peer_rule(peer)


def test_a_peer_may_have_several_titles() -> None:
    peer = Peer(name="CT", ae_title="CT1", ae_titles=("CT1_SR", " CT1_PS "))
    for title in ("CT1", "CT1_SR", "CT1_PS", " CT1_PS"):
        assert admit(asks(title), rules(peer)) == peer_rule(peer)
    assert admit(asks("CT2"), rules(peer)) is Rejection.CALLING_AE_UNKNOWN


@pytest.mark.parametrize(
    ("wanted", "certificate", "expected"),
    [
        ({}, None, None),
        ({}, PeerCertificate("X", OTHER), None),
        ({"tls_required": True}, None, Rejection.TLS_REQUIRED),
        ({"tls_required": True}, PeerCertificate("X", OTHER), None),
        ({"certificate_common_name": "CT 1"}, None, Rejection.TLS_REQUIRED),
        ({"certificate_common_name": "CT 1"}, PeerCertificate("CT 1", OTHER), None),
        (
            {"certificate_common_name": "CT 1"},
            PeerCertificate("ct 1", OTHER),
            Rejection.CERTIFICATE_MISMATCH,
        ),
        (
            {"certificate_common_name": "CT 1"},
            PeerCertificate(None, OTHER),
            Rejection.CERTIFICATE_MISMATCH,
        ),
        ({"certificate_sha256": FINGERPRINT}, PeerCertificate("X", FINGERPRINT), None),
        (
            {"certificate_sha256": ":".join(["AB"] * 32)},
            PeerCertificate("X", FINGERPRINT),
            None,
        ),
        (
            {"certificate_sha256": FINGERPRINT},
            PeerCertificate("X", OTHER),
            Rejection.CERTIFICATE_MISMATCH,
        ),
    ],
)
def test_tls_and_certificates(
    wanted: dict[str, Any], certificate: PeerCertificate | None, expected: Rejection | None
) -> None:
    peer = Peer(name="CT", ae_title="CT1", addresses=("10.0.0.0/8",), **wanted)
    decided = admit(asks(certificate=certificate), rules(peer))
    assert decided == (expected or peer_rule(peer))
    decided = admit_http("10.1.2.3", certificate, rules(peer))
    assert decided == (expected or peer_rule(peer))


def test_of_several_rules_the_first_that_fits_is_chosen() -> None:
    pinned = Peer(name="console", ae_title="CT1", certificate_common_name="Console")
    inside = Peer(name="inside", ae_title="CT1", addresses=("10.0.0.0/8",))
    both = rules(pinned, inside)
    assert admit(asks(), both) == peer_rule(inside)
    assert admit(asks(certificate=PeerCertificate("Console", OTHER)), both) == peer_rule(pinned)
    assert admit(asks(address="192.0.2.1"), both) is Rejection.TLS_REQUIRED


def test_every_rejection_that_says_who_is_known_looks_the_same_to_the_caller() -> None:
    hidden = (Rejection.CALLING_AE_UNKNOWN, Rejection.TLS_REQUIRED, Rejection.CERTIFICATE_MISMATCH)
    assert {rejection.code for rejection in hidden} == {(1, 1, 3)}


@pytest.mark.parametrize(
    ("open_by_peer", "expected"),
    [({}, None), ({"CT": 1}, None), ({"CT": 2}, Rejection.PEER_LIMIT), ({"MR": 9}, None)],
)
def test_a_peers_own_limit(open_by_peer: dict[str, int], expected: Rejection | None) -> None:
    peer = Peer(name="CT", ae_title="CT1", max_associations=2)
    decided = admit(asks(open_by_peer=open_by_peer), rules(peer))
    assert decided == (expected or peer_rule(peer))


def test_the_listeners_limit_holds_for_everyone() -> None:
    peer = Peer(name="CT", ae_title="CT1", max_associations=100)
    limited = rules(peer, max_associations=3)
    assert admit(asks(open_associations=2), limited) == peer_rule(peer)
    assert admit(asks(open_associations=3), limited) is Rejection.LOCAL_LIMIT


@pytest.mark.parametrize(
    ("verbs", "echo", "store"),
    [(("echo", "store", "stow"), True, True), (("echo",), True, False), (("store",), False, True)],
)
def test_verbs_decide_what_may_be_negotiated(
    verbs: tuple[Any, ...], echo: bool, store: bool
) -> None:
    rule = peer_rule(Peer(name="CT", ae_title="CT1", verbs=verbs))
    assert rule.may_negotiate(VERIFICATION) is echo
    assert rule.may_negotiate(CT_STORAGE) is store
    assert rule.may_negotiate("1.2.3.4.5") is store  # private storage classes


def test_over_http_the_address_decides() -> None:
    stow = Peer(name="VNA", verbs=("stow",), addresses=("10.9.0.0/16",))
    dicom = Peer(name="CT", ae_title="CT1", verbs=("store",), addresses=("10.1.0.0/16",))
    anywhere = Peer(name="PACS", ae_title="PACS")
    known = rules(stow, dicom, anywhere)
    assert admit_http("10.9.1.1", None, known) == peer_rule(stow)
    assert admit_http("10.1.1.1", None, known) is Rejection.CALLING_AE_UNKNOWN
    # Without an address there is nothing to know an HTTP client by.
    assert admit_http("192.0.2.1", None, known) is Rejection.CALLING_AE_UNKNOWN
    opened = admit_http("192.0.2.1", None, rules(accept_unknown_peers=True))
    assert isinstance(opened, PeerRule)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"verbs": ("stow",)},
        {"addresses": ("10.0.0.0/8",)},
        {"ae_title": "A", "addresses": ("10.0.0.5/8",)},
        {"ae_title": "A", "addresses": ("10.0.0.256",)},
        {"ae_title": "A", "addresses": ("10.0.0",)},
        {"ae_title": "A", "addresses": ("2001:db8::g",)},
        {"ae_title": "A", "addresses": ("not a host",)},
        {"ae_title": "A", "host": "-x.example"},
        {"ae_title": "A", "verbs": ("find",)},
        {"ae_title": "A", "certificate_sha256": "ab"},
        {"ae_title": "A", "priority": "urgent"},
        {"ae_title": "SEVENTEEN LETTERS"},
    ],
)
def test_peers_that_make_no_sense_are_errors_of_the_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Peer(name="x", **wrong)


def test_two_peers_of_one_name_are_an_error_of_the_settings() -> None:
    with pytest.raises(ValidationError, match="names must differ"):
        rules(Peer(name="CT", ae_title="A"), Peer(name="CT", ae_title="B"))


def test_rules_reach_the_receivers_as_json() -> None:
    sent = rules(
        Peer(
            name="CT",
            ae_title="CT1",
            ae_titles=("CT2",),
            addresses=("10.0.0.0/8", "ct.example"),
            verbs=("echo", "store"),
            certificate_sha256=FINGERPRINT,
            priority="high",
            quiet_period_s=2.5,
            max_associations=3,
        ),
        Peer(name="PACS", ae_title="PACS", tls_required=True),
        accept_unknown_peers=True,
    )
    assert AdmissionRules.from_json(json.loads(json.dumps(sent.as_json()))) == sent


@given(
    st.text(max_size=20),
    st.text(max_size=20),
    st.one_of(st.text(max_size=30), st.ip_addresses().map(str)),
)
def test_whatever_a_stranger_says_it_is_rejected(calling: str, called: str, address: str) -> None:
    closed = rules(Peer(name="CT", ae_title="CT1", addresses=("192.0.2.7",)))
    request = AssociationRequest(calling, called, address, 0)
    decided = admit(request, closed, nobody)
    known = (calling.strip(), called.strip(), address.removeprefix("::ffff:"))
    if known != ("CT1", "AXIAL", "192.0.2.7"):
        assert isinstance(decided, Rejection)

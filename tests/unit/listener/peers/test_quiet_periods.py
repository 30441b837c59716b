"""Whose quiet period holds for a sender."""

from __future__ import annotations

from services.common.settings import ListenerSettings, Peer
from services.listener.peers.policies import QuietPeriods, title_of

PEERS = (
    Peer(name="CT", ae_titles=("CT1", "SHARED"), quiet_period_s=2),
    Peer(name="PACS", ae_titles=("PACS1", "SHARED"), quiet_period_s=30),
    Peer(name="MR", ae_title="MR1"),
    Peer(name="told", ae_title="TOLD", quiet_period_s=0),
)


def test_a_peer_has_its_own_quiet_period_and_others_the_listeners() -> None:
    of = QuietPeriods(ListenerSettings(quiet_period_s=7, peers=PEERS)).of
    assert (of("CT"), of("PACS"), of("MR"), of("told"), of("STRANGER")) == (2, 30, 7, 0, 7)


def test_what_a_spool_names_by_its_title_gets_the_longest_of_those_it_may_be() -> None:
    of = QuietPeriods(ListenerSettings(quiet_period_s=7, peers=PEERS)).of
    assert (of("CT1"), of("PACS1"), of("SHARED")) == (2, 30, 30)


def test_a_peer_without_ae_title_is_known_by_what_stands_for_one() -> None:
    peer = Peer(name="cloud router north wing", host="10.1.2.3", verbs=("stow",), quiet_period_s=3)
    of = QuietPeriods(ListenerSettings(quiet_period_s=7, peers=(peer,))).of
    assert (of(peer.name), of("cloud router nor"), of("cloud router")) == (3, 3, 7)
    assert title_of("Köln, Haus 4 Süd") == "K?ln, Haus 4 S?d"

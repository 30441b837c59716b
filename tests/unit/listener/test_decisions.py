"""Decisions of the listener, as pure functions: quiet or not, whom to serve, when to try again."""

from __future__ import annotations

import datetime as dt

import pytest

from services.common.settings import ListenerSettings, Peer
from services.listener.assembly import remaining_quiet
from services.listener.backoff import backoff_s
from services.listener.peers import AssociationRequest, Rejection, admit, known_peer
from services.listener.registry import StudyActivity

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
QUIET = dt.timedelta(seconds=5)
SETTINGS = ListenerSettings(
    ae_title="AXIAL",
    max_associations=2,
    peers=(
        Peer(name="Scanner 1", ae_title="MR1", host="192.0.2.7"),
        Peer(name="PACS", ae_title="PACS"),
        Peer(name="Loopback", ae_title="LOCAL", host="localhost"),
    ),
)


def activity(unfrozen: int = 3, ago_s: float = 0.0) -> StudyActivity:
    return StudyActivity("2.25.1", NOON - dt.timedelta(seconds=ago_s), unfrozen, 0)


@pytest.mark.parametrize(
    ("ago_s", "remaining_s"),
    [(0, 5), (3, 2), (4.999, 0.001), (5, 0), (500, 0), (-60, 5)],
    ids=["now", "a while", "almost", "just", "long", "clock set back"],
)
def test_a_study_is_quiet_when_nothing_came_for_the_quiet_period(
    ago_s: float, remaining_s: float
) -> None:
    remaining = remaining_quiet(activity(ago_s=ago_s), NOON, QUIET)
    assert remaining == dt.timedelta(seconds=remaining_s)


def test_a_study_whose_instances_are_all_frozen_waits_for_nothing() -> None:
    assert remaining_quiet(activity(unfrozen=0, ago_s=500), NOON, QUIET) is None


def test_without_a_quiet_period_a_study_is_frozen_at_once() -> None:
    assert remaining_quiet(activity(), NOON, dt.timedelta(0)) == dt.timedelta(0)


@pytest.mark.parametrize(
    ("calling", "called", "address", "open_associations", "expected"),
    [
        ("MR1", "AXIAL", "192.0.2.7", 0, None),
        ("MR1 ", " AXIAL", "::ffff:192.0.2.7", 0, None),
        ("PACS", "AXIAL", "203.0.113.9", 1, None),
        ("LOCAL", "AXIAL", "127.0.0.1", 0, None),
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
    calling: str, called: str, address: str, open_associations: int, expected: Rejection | None
) -> None:
    request = AssociationRequest(calling, called, address, open_associations)
    assert admit(request, SETTINGS) is expected


def test_unknown_peers_are_served_only_where_that_is_configured() -> None:
    request = AssociationRequest("ANYONE", "AXIAL", "203.0.113.9", 0)
    assert admit(request, ListenerSettings()) is Rejection.CALLING_AE_UNKNOWN
    assert admit(request, ListenerSettings(accept_unknown_peers=True)) is None


def test_nobody_is_served_while_the_listener_stops() -> None:
    request = AssociationRequest("PACS", "AXIAL", "192.0.2.9", 0, stopping=True)
    assert admit(request, SETTINGS) is Rejection.STOPPING


def test_a_host_name_that_does_not_resolve_is_nobodys_address() -> None:
    settings = ListenerSettings(peers=(Peer(name="x", ae_title="X", host="no-such.invalid"),))
    assert known_peer(AssociationRequest("X", "AXIAL", "192.0.2.1", 0), settings) is None


def test_backoff_grows_from_50_ms_to_5_s_and_never_ends() -> None:
    without_jitter = [backoff_s(failures, 0.0) for failures in range(1, 10)]
    assert without_jitter == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff_s(10**6, 0.0) == 5.0
    assert backoff_s(3, 1.0) == 0.1

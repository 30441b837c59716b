"""The order in which jobs start: by priority, with ageing."""

from __future__ import annotations

import datetime as dt

import hypothesis.strategies as st
from hypothesis import given

from services.orchestrator.ordering import place_in_queue

NOON = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
LEAD_S = 600.0
moments = st.integers(0, 2_000_000_000).map(
    lambda seconds: NOON + dt.timedelta(seconds=seconds - 300_000_000)
)
priorities = st.sampled_from(["high", "normal", "low"])


def _place(priority: str, seconds_after_noon: float) -> int:
    return place_in_queue(priority, NOON + dt.timedelta(seconds=seconds_after_noon), LEAD_S)


def test_a_high_job_passes_what_came_shortly_before() -> None:
    waiting = [_place("normal", seconds) for seconds in range(12)]
    assert _place("high", 20) < min(waiting)
    assert _place("low", 0) > max(waiting)


def test_what_waited_for_a_lead_is_passed_no_more() -> None:
    assert _place("high", LEAD_S + 1) > _place("normal", 0)
    assert _place("high", 2 * LEAD_S + 1) > _place("low", 0)
    assert _place("normal", LEAD_S + 1) > _place("low", 0)


def test_a_priority_of_a_newer_version_is_a_normal_one() -> None:
    assert _place("urgent", 0) == _place("normal", 0)


@given(moments, moments, priorities)
def test_equal_priorities_keep_their_order(
    one: dt.datetime, other: dt.datetime, priority: str
) -> None:
    earlier, later = sorted((one, other))
    assert place_in_queue(priority, earlier, LEAD_S) <= place_in_queue(priority, later, LEAD_S)


@given(moments, priorities, st.floats(0, 86400 * 30))
def test_the_queue_accepts_every_place(moment: dt.datetime, priority: str, lead_s: float) -> None:
    assert 1 <= place_in_queue(priority, moment, lead_s) <= (1 << 31) - 1


@given(moments, priorities, priorities, st.floats(0, 86400))
def test_nothing_is_passed_by_what_came_two_leads_later(
    moment: dt.datetime, waiting: str, coming: str, further_s: float
) -> None:
    later = moment + dt.timedelta(seconds=2 * LEAD_S + 1 + further_s)
    assert place_in_queue(waiting, moment, LEAD_S) <= place_in_queue(coming, later, LEAD_S)

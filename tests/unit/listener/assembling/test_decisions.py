"""Decisions of the listener, as pure functions: quiet or not, when to try again."""

from __future__ import annotations

import datetime as dt

import pytest

from services.listener.assembling.assembly import remaining_quiet
from services.listener.assembling.revisions import StudyActivity
from services.listener.backoff import backoff_s

NOON = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
QUIET = dt.timedelta(seconds=5)


def activity(unfrozen: int = 3, ago_s: float = 0.0, quiet: dt.timedelta = QUIET) -> StudyActivity:
    return StudyActivity("2.25.1", NOON - dt.timedelta(seconds=ago_s), unfrozen, 0, quiet)


@pytest.mark.parametrize(
    ("ago_s", "remaining_s"),
    [(0, 5), (3, 2), (4.999, 0.001), (5, 0), (500, 0), (-60, 5)],
    ids=["now", "a while", "almost", "just", "long", "clock set back"],
)
def test_a_study_is_quiet_when_nothing_came_for_the_quiet_period(
    ago_s: float, remaining_s: float
) -> None:
    remaining = remaining_quiet(activity(ago_s=ago_s), NOON)
    assert remaining == dt.timedelta(seconds=remaining_s)


def test_a_study_whose_instances_are_all_frozen_waits_for_nothing() -> None:
    assert remaining_quiet(activity(unfrozen=0, ago_s=500), NOON) is None


def test_without_a_quiet_period_a_study_is_frozen_at_once() -> None:
    assert remaining_quiet(activity(quiet=dt.timedelta(0)), NOON) == dt.timedelta(0)


def test_backoff_grows_from_50_ms_to_5_s_and_never_ends() -> None:
    without_jitter = [backoff_s(failures, 0.0) for failures in range(1, 10)]
    assert without_jitter == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert backoff_s(10**6, 0.0) == 5.0
    assert backoff_s(3, 1.0) == 0.1

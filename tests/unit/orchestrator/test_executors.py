"""Heartbeats: a silent worker is adopted by exactly one other. On SQLite and PostgreSQL."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import time_machine
from sqlalchemy import Engine

from services.orchestrator.executors import beat, claim_dead, forget, is_alone

NOW = dt.datetime(2026, 1, 1, 12, 0, tzinfo=dt.UTC)


def _at(seconds: float) -> time_machine.travel:
    return time_machine.travel(NOW + dt.timedelta(seconds=seconds), tick=False)


def test_living_worker_is_not_claimed(engine: Engine) -> None:
    with _at(0):
        beat(engine, "a")
        beat(engine, "b")
    with _at(10):
        assert claim_dead(engine, "b", timeout_s=15) == []


def test_silent_worker_is_claimed_once(engine: Engine) -> None:
    with _at(0):
        beat(engine, "a")
    with _at(20):
        beat(engine, "b")
        beat(engine, "c")
        assert claim_dead(engine, "b", timeout_s=15) == ["a"]
        assert claim_dead(engine, "c", timeout_s=15) == []


def test_claimed_worker_is_returned_until_it_is_forgotten(engine: Engine) -> None:
    # The claimer may die between claiming and taking the work up.
    with _at(0):
        beat(engine, "a")
    with _at(20):
        beat(engine, "b")
        assert claim_dead(engine, "b", timeout_s=15) == ["a"]
        assert claim_dead(engine, "b", timeout_s=15) == ["a"]
        forget(engine, ["a"])
        assert claim_dead(engine, "b", timeout_s=15) == []


def test_a_worker_is_alone_as_long_as_no_other_is_on_the_list(engine: Engine) -> None:
    beat(engine, "a")
    assert is_alone(engine, "a")
    beat(engine, "b")
    assert not is_alone(engine, "a")
    forget(engine, ["b"])
    assert is_alone(engine, "a")


def test_only_one_of_many_claims_at_the_same_moment(engine: Engine) -> None:
    with _at(0):
        beat(engine, "dead")
    with _at(20):
        names = [f"w{n}" for n in range(6)]
        for name in names:
            beat(engine, name)
        with ThreadPoolExecutor(6) as pool:
            claims = list(pool.map(lambda name: claim_dead(engine, name, 15), names))
    assert [name for claim in claims for name in claim] == ["dead"]


def test_claim_of_a_dead_claimer_is_adopted(engine: Engine) -> None:
    with _at(0):
        beat(engine, "a")
    with _at(20):
        beat(engine, "b")
        assert claim_dead(engine, "b", timeout_s=15) == ["a"]
    with _at(60):
        beat(engine, "c")
        assert sorted(claim_dead(engine, "c", timeout_s=15)) == ["a", "b"]


def test_returning_worker_counts_as_alive_again(engine: Engine) -> None:
    with _at(0):
        beat(engine, "a")
    with _at(20):
        beat(engine, "b")
        claim_dead(engine, "b", timeout_s=15)
        beat(engine, "a")
    with _at(60):
        beat(engine, "b")
        assert claim_dead(engine, "b", timeout_s=15) == ["a"]

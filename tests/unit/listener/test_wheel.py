"""Deadlines come in their order, move when armed again, and are waited for without polling."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.listener.wheel import Deadlines, Wheel


def test_due_keys_come_earliest_first_and_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.arm("late", 3.0)
    deadlines.arm("early", 1.0)
    deadlines.arm("middle", 2.0)
    assert deadlines.pop_due(0.5) == []
    assert deadlines.pop_due(2.0) == ["early", "middle"]
    assert deadlines.pop_due(9.0) == ["late"]
    assert (deadlines.pop_due(9.0), deadlines.earliest(), len(deadlines)) == ([], None, 0)


def test_arming_again_moves_the_deadline() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.arm("study", 1.0)
    deadlines.arm("study", 5.0)
    assert deadlines.pop_due(4.9) == []
    assert deadlines.pop_due(5.0) == ["study"]
    deadlines.arm("study", 9.0)
    deadlines.arm("study", 6.0)
    assert deadlines.earliest() == 6.0


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 100))), st.floats(0, 100))
def test_each_key_is_due_exactly_when_its_last_deadline_has_come(
    armed: list[tuple[str, float]], now: float
) -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, at in armed:
        deadlines.arm(key, at)
    last = dict(armed)
    assert sorted(deadlines.pop_due(now)) == sorted(key for key, at in last.items() if at <= now)
    assert len(deadlines) == sum(at > now for at in last.values())


def test_wheel_acts_at_once_on_an_earlier_key_while_it_waits_for_a_later() -> None:
    acted: list[str] = []
    done = threading.Event()

    def act(key: str) -> None:
        acted.append(key)
        done.set()

    with Wheel("test", act) as wheel:
        wheel.arm("in an hour", 3600)
        begun = time.monotonic()
        wheel.arm("now", 0.0)
        assert done.wait(10)
        assert time.monotonic() - begun < 5
    assert acted == ["now"]


def test_left_wheel_has_no_thread_and_leaves_the_rest_undone() -> None:
    acted: list[str] = []
    wheel = Wheel[str]("test", acted.append)
    with wheel:
        wheel.arm("in an hour", 3600)
        assert wheel.alive()
    assert not wheel.alive()
    assert acted == []


def test_an_action_may_arm_its_own_key_again() -> None:
    times: list[float] = []
    done = threading.Event()

    def act(key: str) -> None:
        times.append(time.monotonic())
        if len(times) < 3:
            wheel.arm(key, 0.01)
        else:
            done.set()

    wheel = Wheel[str]("test", act)
    with wheel:
        wheel.arm("again", 0.0)
        assert done.wait(10)
    assert len(times) == 3


def test_an_action_that_fails_unplanned_is_tried_again_and_the_others_go_on() -> None:
    acted: list[str] = []
    done = threading.Event()

    def act(key: str) -> None:
        acted.append(key)
        if acted.count("2.25.4711") <= 2 and key == "2.25.4711":
            raise KeyError(key)
        if {"other", "2.25.4711"} <= set(acted) and acted.count("2.25.4711") == 3:
            done.set()

    with capture_logs() as events, Wheel("test", act) as wheel:
        wheel.arm("2.25.4711", 0.0)
        wheel.arm("other", 0.0)
        assert done.wait(10)
        assert wheel.alive()
    assert (acted.count("2.25.4711"), acted.count("other")) == (3, 1)
    assert [(event["problem"], event["failures"]) for event in events] == [
        ("KeyError", 1),
        ("KeyError", 2),
    ]
    assert "4711" not in str(events)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_wheel_whose_thread_was_ended_is_not_alive() -> None:
    ended = threading.Event()

    def act(_key: str) -> None:
        ended.set()
        raise SystemExit

    with Wheel("test", act) as wheel:
        wheel.arm("key", 0.0)
        assert ended.wait(10)
        deadline = time.monotonic() + 10
        while wheel.alive():
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_a_wheel_that_is_left_ends_after_the_action_under_way() -> None:
    acted: list[str] = []
    begun, finish = threading.Event(), threading.Event()

    def act(key: str) -> None:
        acted.append(key)
        begun.set()
        assert finish.wait(10)

    wheel = Wheel[str]("test", act)
    for key in ("first", "second", "third"):
        wheel.arm(key, 0.0)
    wheel.__enter__()
    assert begun.wait(10)
    leaving = threading.Thread(target=wheel.__exit__)
    leaving.start()
    while not wheel.stopping():
        leaving.join(0.001)
    finish.set()
    leaving.join(10)
    assert not wheel.alive()
    assert acted == ["first"]


def test_only_an_idle_key_is_armed_by_who_does_not_know() -> None:
    acted: list[str] = []
    done = threading.Event()

    def act(key: str) -> None:
        acted.append(key)
        done.set()

    wheel = Wheel[str]("test", act)
    wheel.arm("in an hour", 3600)
    assert not wheel.arm_idle("in an hour", 0.0)
    assert wheel.arm_idle("now", 0.0)
    with wheel:
        assert done.wait(10)
    assert acted == ["now"]

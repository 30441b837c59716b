"""A periodic thread survives its rounds and ends with its context."""

from __future__ import annotations

import threading
import time

import pytest

from services.orchestrator.periodic import PeriodicThread


class Rounds(PeriodicThread):
    """Counts its rounds; the first `failing` of them fail."""

    def __init__(self, failing: int = 0, first_after_s: float = 0.0) -> None:
        super().__init__("rounds", 0.01, first_after_s=first_after_s, failed="round_failed")
        self.failing = failing
        self.made = 0
        self.sound_one = threading.Event()

    def _begin(self) -> None:
        if self.failing < 0:
            raise ConnectionError("no database")

    def _round(self) -> None:
        self.made += 1
        if self.made <= self.failing:
            raise OSError("the disk is away")
        self.sound_one.set()


def test_a_round_that_fails_does_not_end_the_thread() -> None:
    with Rounds(failing=2) as rounds:
        assert rounds.sound_one.wait(10)
        assert rounds.alive()


def test_no_round_is_made_after_the_context_has_ended() -> None:
    with Rounds() as rounds:
        assert rounds.sound_one.wait(10)
    assert not rounds.alive()


def test_a_first_round_that_waits_keeps_no_one_from_ending() -> None:
    before = time.monotonic()
    with Rounds(first_after_s=60) as rounds:
        assert rounds.alive()
    assert not rounds.alive()
    assert rounds.made == 0
    assert time.monotonic() - before < 5


def test_what_fails_at_the_begin_reaches_who_enters() -> None:
    rounds = Rounds(failing=-1)
    with pytest.raises(ConnectionError), rounds:
        pass
    assert not rounds.alive()

"""How far a run has come: never backwards, and nothing of what is done before anybody looks."""

from __future__ import annotations

import pytest

from models.runtime import progress
from models.runtime.progress import Progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_steps_that_are_merged_count_their_passes_in_turn(clock: Clock) -> None:
    told: list[float] = []
    counted = Progress(2, told.append)
    clock.now = 10.0
    one, other = counted.begin(4), counted.begin(2)
    for passed in (one, one, other, one, one, other):
        passed(1)
        clock.now += 1.0
    assert told == pytest.approx([1 / 8, 2 / 8, 4 / 8, 5 / 8, 6 / 8, 1.0])


def test_what_is_soon_done_tells_nothing_and_the_rest_tells_now_and_then(clock: Clock) -> None:
    told: list[float] = []
    passed = Progress(1, told.append).begin(100)
    for _ in range(100):
        clock.now += 0.05  # five seconds in all
        passed(1)
    assert told[0] >= 0.2
    assert len(told) in range(8, 10)
    assert told == sorted(told)
    assert told[-1] <= 1.0

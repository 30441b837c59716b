"""When what a study is to consist of is there."""

from __future__ import annotations

import pytest

from services.listener.assembling.expectations import Expectation, is_met

A, B, C = "1.2.1", "1.2.2", "1.2.3"


@pytest.mark.parametrize(
    ("expected", "received", "met"),
    [
        (Expectation(5, None, {}), {A: 3, B: 2}, True),
        (Expectation(5, None, {}), {A: 3, B: 1}, False),
        (Expectation(5, None, {}), {A: 3, B: 3}, False),
        (Expectation(5, None, {A: 3}), {A: 3, B: 2}, True),
        (Expectation(5, None, {A: 3}), {A: 2, B: 3}, False),
        (Expectation(5, None, {A: 3, C: 2}), {A: 3, B: 2}, False),
        (Expectation(5, 2, {}), {A: 3, B: 2}, True),
        (Expectation(5, 3, {}), {A: 3, B: 2}, False),
        (Expectation(None, 2, {A: 3, B: 2}), {A: 3, B: 2}, True),
        (Expectation(None, 2, {A: 3, B: 2}), {A: 3}, False),
        (Expectation(None, 2, {A: 3}), {A: 3, B: 2}, False),
        (Expectation(None, 2, {}), {A: 3, B: 2}, False),
        (Expectation(None, 1, {A: 3}), {A: 3, B: 2}, False),
        (Expectation(None, None, {A: 3}), {A: 3}, False),
        (Expectation(5, None, {}), {}, False),
    ],
    ids=[
        "as many as expected",
        "less",
        "exceeded",
        "and so many of a series",
        "less of a series",
        "a series that did not come",
        "and so many series",
        "a series is missing",
        "every series has its count",
        "one did not come",
        "one is not counted",
        "none is counted",
        "more series than expected",
        "a series alone tells nothing of the study",
        "nothing came",
    ],
)
def test_a_study_is_there_by_count(
    expected: Expectation, received: dict[str, int], met: bool
) -> None:
    assert is_met(expected, received) is met

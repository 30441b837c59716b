"""Lifecycles: every pair of states, allowed and forbidden."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import product
from typing import Any

import pytest

from services.common.lifecycle import (
    CONFLICT_TRANSITIONS,
    DELIVERY_TRANSITIONS,
    DEPLOYMENT_TRANSITIONS,
    JOB_TRANSITIONS,
    REVISION_TRANSITIONS,
    ConflictState,
    DeliveryState,
    DeploymentState,
    JobState,
    LifecycleError,
    RevisionState,
    require,
)

_TABLES: list[tuple[type[StrEnum], Mapping[Any, frozenset[Any]]]] = [
    (RevisionState, REVISION_TRANSITIONS),
    (JobState, JOB_TRANSITIONS),
    (DeliveryState, DELIVERY_TRANSITIONS),
    (ConflictState, CONFLICT_TRANSITIONS),
    (DeploymentState, DEPLOYMENT_TRANSITIONS),
]
_PAIRS = [(table, a, b) for states, table in _TABLES for a, b in product(states, states)]


@pytest.mark.parametrize(("states", "table"), _TABLES)
def test_table_covers_every_state(
    states: type[StrEnum], table: Mapping[Any, frozenset[Any]]
) -> None:
    assert set(table) == set(states)


@pytest.mark.parametrize(("table", "current", "wanted"), _PAIRS)
def test_only_the_pairs_in_the_table_are_allowed(
    table: Mapping[Any, frozenset[Any]], current: Any, wanted: Any
) -> None:
    if wanted == current or wanted in table[current]:
        require(table, current, wanted, "Job 1")
    else:
        with pytest.raises(LifecycleError, match="Job 1"):
            require(table, current, wanted, "Job 1")


def test_what_was_superseded_stays_so_and_what_was_delivered_is_only_sent_again() -> None:
    assert JOB_TRANSITIONS[JobState.SUPERSEDED] == frozenset()
    assert DELIVERY_TRANSITIONS[DeliveryState.DELIVERED] == {DeliveryState.PENDING}


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        ("held", "sending"),  # it is claimed only once it is free
        ("held", "delivered"),
        ("delivered", "held"),  # what has arrived is not held back any more
        ("pending", "committing"),  # nothing is committed that was not sent
        ("waiting", "committing"),
        ("delivered", "committed"),  # nobody asked
        ("dead", "committed"),
        ("committed", "delivered"),
        ("committed", "dead"),
        ("committed", "withdrawn"),
        ("committing", "withdrawn"),
        ("committing", "held"),
    ],
)
def test_no_delivery_skips_a_step(current: str, wanted: str) -> None:
    with pytest.raises(LifecycleError):
        require(DELIVERY_TRANSITIONS, DeliveryState(current), DeliveryState(wanted), "A delivery")

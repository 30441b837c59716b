"""The joint choice over roles is the best that the rules allow, whatever the order of things."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from hypothesis import given
from hypothesis import strategies as st

from services.orchestrator.joining import (
    MAX_ASSIGNMENTS,
    Candidate,
    GoTogether,
    RoleCandidates,
    distinct,
    join,
    same_frame_of_reference,
)

ROLES = ("t1", "t1c", "t2", "flair")
RULES: Sequence[GoTogether[int]] = (distinct, same_frame_of_reference)


@st.composite
def volumes(draw: st.DrawFn) -> list[Candidate[int]]:
    """The volumes of a study: few series and frames of reference, so that they meet."""
    places = draw(
        st.lists(
            st.tuples(st.integers(1, 4), st.integers(1, 2)), unique=True, min_size=0, max_size=6
        )
    )
    return [
        Candidate(
            f"1.{series}",
            volume,
            draw(st.sampled_from(["", "2.1", "2.2"])),
            number,
        )
        for number, (series, volume) in enumerate(places)
    ]


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[RoleCandidates[int]], list[GoTogether[int]]]:
    """Roles with candidates in some order of preference, and rules."""
    found = draw(volumes())
    roles = [
        RoleCandidates(
            role,
            draw(st.permutations(found))[: draw(st.integers(0, len(found)))],
            every=draw(st.booleans()),
        )
        for role in ROLES[: draw(st.integers(1, len(ROLES)))]
    ]
    return roles, list(RULES)


def _holds(choice: Mapping[str, Candidate[int]], rules: Sequence[GoTogether[int]]) -> bool:
    pairs = itertools.combinations(choice.items(), 2)
    return all(rule(a, one, b, other) for (a, one), (b, other) in pairs for rule in rules)


def _all_that_hold(
    roles: Sequence[RoleCandidates[int]], rules: Sequence[GoTogether[int]]
) -> list[tuple[int, ...]]:
    """Places of the candidates of every assignment that holds, the best first."""
    places = itertools.product(*(range(len(each.candidates)) for each in roles))
    return [
        choice
        for choice in places
        if _holds({r.role: r.candidates[n] for r, n in zip(roles, choice, strict=True)}, rules)
    ]


@given(questions())
def test_of_all_assignments_that_hold_the_best_is_chosen(
    question: tuple[list[RoleCandidates[int]], list[GoTogether[int]]],
) -> None:
    roles, rules = question
    every = [number for number, role in enumerate(roles) if role.every]
    wanted: dict[tuple[int, ...], tuple[int, ...]] = {}
    for choice in _all_that_hold(roles, rules):
        wanted.setdefault(tuple(choice[number] for number in every), choice)
    joint = join(roles, rules)
    found = [
        tuple(role.candidates.index(assignment[role.role]) for role in roles)
        for assignment in joint.assignments
    ]
    assert found == [wanted[key] for key in sorted(wanted)]
    assert (joint.lacking is None) == bool(wanted)


@given(questions())
def test_what_is_lacking_is_a_role_that_could_not_be_filled(
    question: tuple[list[RoleCandidates[int]], list[GoTogether[int]]],
) -> None:
    roles, rules = question
    lacking = join(roles, rules).lacking
    if lacking is None:
        return
    without = [role for role in roles if role.role != lacking]
    place = next(number for number, role in enumerate(roles) if role.role == lacking)
    empty = [role.role for role in roles if not role.candidates]
    if empty:
        assert lacking == empty[0]
    else:
        # The roles before it can be filled; no way to fill them leaves it a candidate.
        before = without[:place]
        assert not before or _all_that_hold(before, rules)
        assert not _all_that_hold(roles[: place + 1], rules)


@given(questions(), st.randoms())
def test_the_order_of_rules_and_of_their_arguments_decides_nothing(
    question: tuple[list[RoleCandidates[int]], list[GoTogether[int]]], random: object
) -> None:
    roles, rules = question
    turned: list[GoTogether[int]] = [
        lambda a, one, b, other, rule=rule: rule(b, other, a, one) for rule in reversed(rules)
    ]
    assert join(roles, turned) == join(roles, rules)


@given(volumes())
def test_one_role_that_reads_every_series_reads_each_once(found: list[Candidate[int]]) -> None:
    joint = join([RoleCandidates("image", found, every=True)], RULES)
    assert [each["image"] for each in joint.assignments] == found


@given(st.integers(1, 3), st.integers(1, 3))
def test_what_is_beyond_the_bound_is_named_and_what_is_within_is_read(
    beyond: int, others: int
) -> None:
    """300 became 256 once, and nobody was told."""
    count = MAX_ASSIGNMENTS + beyond
    found = [Candidate(f"1.{number}", 1, "2.1", number) for number in range(count)]
    joint = join([RoleCandidates("image", found, every=True)], RULES)
    assert [each["image"] for each in joint.assignments] == found[:MAX_ASSIGNMENTS]
    assert joint.untried == {("image", each.series_uid, 1) for each in found[MAX_ASSIGNMENTS:]}
    best = [Candidate(f"3.{number}", 1, "2.1", number) for number in range(others)]
    two = join([RoleCandidates("image", found, every=True), RoleCandidates("other", best)], RULES)
    assert len(two.assignments) == MAX_ASSIGNMENTS
    assert {each["other"] for each in two.assignments} == {best[0]}
    assert len(two.untried) == beyond

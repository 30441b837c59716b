"""The joint choice: which series fills which role of a model.

Pure functions over candidates. Every role has its candidates, the best first; rules say which of
them go together. Of all assignments that hold, the one that is best for the first role counts,
among those the one that is best for the second, and so on: roles are given in the order in which
they matter. A role that reads every series makes an assignment for each of its candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

# More jobs of one model for one study are nobody's wish; what was not tried is told (`untried`).
MAX_ASSIGNMENTS = 256


@dataclass(frozen=True, slots=True)
class Candidate(Generic[_T]):
    """A volume that fits a role, with what the rules ask of it.

    Attributes:
        series_uid: the series.
        volume: which of the series' volumes, from 1.
        frame_of_reference_uid: PS3.3 C.7.4.1; empty when the series has none.
        item: what the caller keeps about the candidate.
    """

    series_uid: str
    volume: int
    frame_of_reference_uid: str
    item: _T


@dataclass(frozen=True, slots=True)
class RoleCandidates(Generic[_T]):
    """What fits one role.

    Attributes:
        role: its name.
        candidates: best first; the order is total.
        every: whether each candidate is read, instead of the best.
    """

    role: str
    candidates: Sequence[Candidate[_T]]
    every: bool = False


# Whether a candidate of one role goes together with a candidate of another role.
GoTogether = Callable[[str, Candidate[_T], str, Candidate[_T]], bool]


@dataclass(frozen=True, slots=True)
class Joint(Generic[_T]):
    """The outcome of `join`.

    Attributes:
        assignments: role -> candidate, for one job each; in the order of the candidates.
        lacking: the role for which no candidate was left; None when there are assignments.
        untried: (role, series UID, volume) of candidates of roles that read all for which no
            assignment was looked for, because there are `MAX_ASSIGNMENTS` without them.
    """

    assignments: tuple[Mapping[str, Candidate[_T]], ...]
    lacking: str | None = None
    untried: frozenset[tuple[str, str, int]] = frozenset()


def distinct(
    one_role: str,  # noqa: ARG001 - a rule
    one: Candidate[_T],
    other_role: str,  # noqa: ARG001 - a rule
    other: Candidate[_T],
) -> bool:
    """Two roles never read the same volume; two volumes of one series may fill two roles."""
    return (one.series_uid, one.volume) != (other.series_uid, other.volume)


def same_frame_of_reference(
    one_role: str,  # noqa: ARG001 - a rule
    one: Candidate[_T],
    other_role: str,  # noqa: ARG001 - a rule
    other: Candidate[_T],
) -> bool:
    """Voxels of both lie in one coordinate system; without a frame of reference none is shared."""
    uid = one.frame_of_reference_uid
    return bool(uid) and uid == other.frame_of_reference_uid


def frames_that_meet(frames: Mapping[str, str]) -> GoTogether[Any]:
    """The rule that roles of one frame read volumes of one frame of reference.

    Args:
        frames: role -> the role in whose frame of reference its images lie as they are sent
            (`models.manifest.frame_of`); roles of different ones are registered.
    """

    def meet(one_role: str, one: Candidate[Any], other_role: str, other: Candidate[Any]) -> bool:
        apart = frames[one_role] != frames[other_role]
        return apart or same_frame_of_reference(one_role, one, other_role, other)

    return meet


def join(roles: Sequence[RoleCandidates[_T]], rules: Sequence[GoTogether[_T]]) -> Joint[_T]:
    """The best assignment of candidates to roles; one for each candidate of roles that read all.

    Args:
        roles: in the order in which they matter; at least one.
        rules: each is asked about every pair of roles.

    Returns:
        The assignments, `MAX_ASSIGNMENTS` at most. When there is none, the role that lacked a
        series: the first without candidates, else the furthest at which every way to fill the
        roles ended.
    """
    empty = next((each.role for each in roles if not each.candidates), None)
    if empty is not None:
        return Joint((), empty)
    reading_all = [each for each in roles if each.every]
    assignments: list[Mapping[str, Candidate[_T]]] = []
    untried = {
        (each.role, one.series_uid, one.volume) for each in reading_all for one in each.candidates
    }
    furthest = 0
    for fixed in product(*(each.candidates for each in reading_all)):
        if len(assignments) == MAX_ASSIGNMENTS:
            break
        untried -= {
            (each.role, one.series_uid, one.volume)
            for each, one in zip(reading_all, fixed, strict=True)
        }
        choice = {each.role: one for each, one in zip(reading_all, fixed, strict=True)}
        searched = _Search(roles, rules, choice)
        found = next(searched.assignments(), None)
        furthest = max(furthest, searched.furthest)
        if found is not None:
            assignments.append(found)
    if not assignments:
        return Joint((), roles[furthest].role)
    return Joint(tuple(assignments), untried=frozenset(untried))


class _Search(Generic[_T]):
    """Fills role after role, the best candidate first, and goes back where nothing is left.

    Attributes:
        furthest: the place of the furthest role that was tried to be filled.
    """

    def __init__(
        self,
        roles: Sequence[RoleCandidates[_T]],
        rules: Sequence[GoTogether[_T]],
        fixed: Mapping[str, Candidate[_T]],
    ) -> None:
        self._roles = roles
        self._rules = rules
        self._fixed = fixed
        self.furthest = 0

    def assignments(self) -> Iterator[Mapping[str, Candidate[_T]]]:
        """All that hold, best first."""
        return self._fill({})

    def _fill(self, so_far: Mapping[str, Candidate[_T]]) -> Iterator[Mapping[str, Candidate[_T]]]:
        place = len(so_far)
        if place == len(self._roles):
            yield so_far
            return
        self.furthest = max(self.furthest, place)
        role = self._roles[place]
        candidates = [self._fixed[role.role]] if role.every else role.candidates
        for candidate in candidates:
            if self._goes(role.role, candidate, so_far):
                yield from self._fill({**so_far, role.role: candidate})

    def _goes(
        self, role: str, candidate: Candidate[_T], so_far: Mapping[str, Candidate[_T]]
    ) -> bool:
        return all(
            rule(other_role, other, role, candidate)
            for other_role, other in so_far.items()
            for rule in self._rules
        )

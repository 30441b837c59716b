"""The registry of kinds: which there are, in which order they are made, and what needs what.

A new kind is a folder beside the others and one line in `KINDS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from services.common.settings import AnyDestination
from services.reporting.errors import ReportingError
from services.reporting.kinds.kind import Kind
from services.reporting.kinds.report import REPORT
from services.reporting.kinds.segmentation import SEGMENTATION
from services.reporting.objects.forms import Form
from services.reporting.objects.naming import SERIES_OF_A_JOB


class Kinds:
    """Kinds by their name, each after the kinds that it needs."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        """Takes the kinds in the order in which they are made.

        Raises:
            ReportingError: two kinds share a name or a series number, or a kind needs another that
                does not precede it.
        """
        self._kinds: dict[str, Kind] = {}
        self._sequence: dict[str, int] = {}
        places: dict[int, str] = {}
        for kind in kinds:
            if kind.name in self._kinds:
                raise ReportingError(f"There are two kinds of results called {kind.name}.")
            for place in _places(kind):
                if places.setdefault(place, kind.name) != kind.name or place >= SERIES_OF_A_JOB:
                    raise ReportingError(
                        f"{kind.name} cannot have the series number {place} of a job."
                    )
            absent = [name for name in kind.needs if name not in self._kinds]
            if absent:
                raise ReportingError(f"{kind.name} needs {absent[0]}, which does not precede it.")
            self._kinds[kind.name] = kind
            needed = (self._sequence[name] + 1 for name in kind.needs)
            self._sequence[kind.name] = max(needed, default=0)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds' names, in the order in which they are made."""
        return tuple(self._kinds)

    def sequence(self, name: str) -> int:
        """Order of sending within a job: what is referred to goes first."""
        return self._sequence[name]

    def needs(self, name: str) -> tuple[str, ...]:
        """The kinds that objects of a kind refer to; none for a kind of newer code."""
        return self._kinds[name].needs if name in self._kinds else ()

    def refers(self, name: str, other: str) -> bool:
        """Whether objects of a kind refer to those of another kind, by way of further kinds too."""
        return any(need == other or self.refers(need, other) for need in self.needs(name))

    def form_for(self, destination: AnyDestination, follows: str = "") -> Form:
        """The form that a destination asks for.

        Args:
            destination: that asks.
            follows: the earlier result that the form's objects are to name (`Form.follows`).
        """
        asked = {
            option.name for kind in self for option in kind.options if option.asked_by(destination)
        }
        return Form(frozenset(asked), follows)

    def require_known(self, destinations: Iterable[AnyDestination]) -> None:
        """Checks that every kind that a destination wants exists.

        Raises:
            ReportingError: a kind does not exist.
        """
        for destination in destinations:
            for name in destination.kinds:
                if name not in self._kinds:
                    raise ReportingError(
                        f"The destination '{destination.name}' wants results of kind '{name}'; "
                        f"there are {', '.join(self.names)}. Correct reporting.destinations."
                    )


def _places(kind: Kind) -> set[int]:
    """The places of all forms of a kind among a job's series numbers."""
    names = kind.names
    return {
        names.series_number(0, 0, Form(frozenset(options)))
        for number in range(len(names.options) + 1)
        for options in combinations(names.options, number)
    }


KINDS = Kinds((SEGMENTATION, REPORT))

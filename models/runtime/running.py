"""What the steps of one run share, and how a run may end early."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from models.manifest.plan import NetworkFacts
from models.manifest.roles import Align
from models.runtime.crew import Crew
from models.runtime.images import Image
from models.runtime.intensity import Window
from models.runtime.members import Members
from models.runtime.networks import Network
from models.runtime.numbers import Numbers
from models.runtime.progress import Progress
from models.runtime.record import PipelineRefusal, Stopwatch
from models.runtime.scores import Scores
from models.runtime.segments import Segments
from models.runtime.source_volume import SourceVolume

__all__ = ["Cancelled", "NothingFound", "Refused", "Run", "Seen", "Value"]


class Cancelled(Exception):
    """Ends a run whose result nobody waits for any more."""


class NothingFound(Exception):
    """Ends a run whose result is that there is nothing."""


class Refused(Exception):
    """Ends a run whose input the model cannot work on."""

    def __init__(self, refusal: PipelineRefusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Seen:
    """A network's answer with the decision built in: 0/1 on the grid of its image."""

    foreground: Segments


Value = Image | Segments | Seen | Scores | Numbers
QuantileKey = tuple[str, int, tuple[float, float]]


@dataclass(slots=True)
class Run:
    """One run of a plan.

    Attributes:
        volumes: what was sent, by role.
        networks: the built networks, by name.
        crew: the threads.
        watch: where times are noted.
        facts: what the plan depends on of each network.
        budget_bytes: what merging may hold.
        is_cancelled: whether nobody waits any more; asked before each pass of a network.
        progress: counts the passes; None where nobody listens.
        aligns: of each role that is brought onto another, how.
        titles: of each role, for sentences.
        made_of_zeros: roles that the study lacks.
        values: what the steps have made so far, by name.
    """

    volumes: Mapping[str, SourceVolume]
    networks: Mapping[str, Network]
    crew: Crew
    watch: Stopwatch
    facts: Mapping[str, NetworkFacts]
    budget_bytes: int
    is_cancelled: Callable[[], bool] = bool
    progress: Progress | None = None
    aligns: Mapping[str, Align] = field(default_factory=dict[str, Align])
    titles: Mapping[str, str] = field(default_factory=dict[str, str])
    made_of_zeros: frozenset[str] = frozenset()
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    # Of an image by name and channel, and which quantiles: several steps may ask for the same.
    quantiles: dict[QuantileKey, Window] = field(default_factory=dict[QuantileKey, Window])

    # What steps behind the present one read: its memory is not to be changed.
    read_later: frozenset[str] = frozenset()
    # Of which values members are kept apart (`models.manifest.plan.members`), and what each found.
    apart: frozenset[str] = frozenset()
    members: dict[str, Members] = field(default_factory=dict[str, Members])

    def require_room(self, what: str, needed: int, allowed: int | None = None) -> None:
        """Refuse work that would take more memory than it may, before anything is made.

        Args:
            what: would take it, as the beginning of a sentence.
            needed: bytes.
            allowed: bytes; None: what merging may hold.

        Raises:
            Refused: it is too large; the reason tells the numbers.
        """
        allowed = self.budget_bytes if allowed is None else allowed
        if needed > allowed:
            values = {
                "what": what,
                "needed_mb": str(-(-needed // 1_000_000)),
                "allowed_mb": str(allowed // 1_000_000),
            }
            raise Refused(PipelineRefusal("too_large", values))

    @contextmanager
    def passing(self, network: Network) -> Generator[None]:
        """A pass of a network: timed, and not begun when nobody waits for it.

        Raises:
            Cancelled: nobody does.
        """
        if self.is_cancelled():
            raise Cancelled
        with self.watch.network(network.name, network.target, network.precision):
            yield

    def begin_passes(self, count: int) -> Callable[[int], None]:
        """A step is about to make so many passes of networks; see `Progress.begin`."""
        return (lambda _more: None) if self.progress is None else self.progress.begin(count)

    def keep(self, name: str, value: Value) -> None:
        """Give a value its name; a plan makes each name once."""
        self.values[name] = value

    def image(self, name: str) -> Image:
        """Return an image that the plan's check has promised."""
        value = self.values[name]
        if not isinstance(value, Image):
            raise TypeError(f"{name} is no image")
        return value

    def scores(self, name: str) -> Scores:
        """Return scores that the plan's check has promised."""
        value = self.values[name]
        if not isinstance(value, Scores):
            raise TypeError(f"{name} holds no scores")
        return value

    def numbers(self, name: str) -> Numbers:
        """Return numbers that the plan's check has promised."""
        value = self.values[name]
        if not isinstance(value, Numbers):
            raise TypeError(f"{name} holds no numbers")
        return value

    def segments(self, name: str) -> Segments:
        """Return segments that the plan's check has promised."""
        value = self.values[name]
        if not isinstance(value, Segments):
            raise TypeError(f"{name} holds no segments")
        return value

"""What a transport offers: a line to a destination, and a probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.dimse.statuses import SendOutcome
from services.reporting.delivery.rows import Delivery


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt to send one result ended.

    Attributes:
        note: why the result did not arrive, or what the destination remarked; None for plain
            success.
        not_reached: there was no line to send over.
    """

    outcome: SendOutcome
    note: str | None
    not_reached: bool = False


class NotReached(Exception):
    """There is no line to the destination: why, in a sentence. Another attempt may succeed."""


class Line(Protocol):
    """An open way to a destination."""

    def send(
        self, file: Path, delivery: Delivery, on_progress: Callable[[], None] | None = None
    ) -> Attempt:
        """Sends one result and waits for the answer.

        A file that is not, byte for byte, the registered one does not leave.

        Args:
            file: the result's.
            delivery: of the result.
            on_progress: called now and then while a large file goes out.
        """
        ...

    def abort(self) -> None:
        """Ends the line from another thread, at once."""
        ...


class Transport(Protocol):
    """The way to one destination, made of its settings."""

    @property
    def longest_silence_s(self) -> float:
        """How long sending may go on without a word: connecting, and waiting for an answer."""
        ...

    def open(
        self, deliveries: Sequence[Delivery], opened: Callable[[Line], None]
    ) -> AbstractContextManager[Line]:
        """Opens a line for deliveries that belong together and closes it at the end.

        Args:
            opened: called with the line before the line is asked for, so that it can be aborted.

        Raises:
            NotReached: the destination is not there or turns us away.
        """
        ...

    def probe(self, opened: Callable[[Line], None]) -> bool:
        """Whether the destination is there, found out without sending a result.

        Args:
            opened: as in `open`.
        """
        ...

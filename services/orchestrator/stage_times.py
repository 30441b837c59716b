"""How long the parts of a stage took: collected while it runs, written down when it is done."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from services.common.database import utc_now


@dataclass(frozen=True, slots=True)
class StageTime:
    """The time that a stage, or a part of one, took.

    Attributes:
        stage: select, gate, load, infer, report, deliver; a part as "infer.network:1:fine".
    """

    stage: str
    started_at: dt.datetime
    seconds: float


class StageTimes:
    """The times of one run of a stage; of one thread."""

    def __init__(self) -> None:
        self._times: list[StageTime] = []

    @contextmanager
    def timed(self, stage: str) -> Generator[None]:
        """Times a part; a part that broke off is not written down."""
        started, begun = utc_now(), time.monotonic()
        yield
        self._times.append(StageTime(stage, started, time.monotonic() - begun))

    def add(self, stage: str, seconds: float) -> None:
        """Adds a time that another process measured and that ended now."""
        self._times.append(StageTime(stage, utc_now(), seconds))

    def all(self) -> tuple[StageTime, ...]:
        """What was measured up to now."""
        return tuple(self._times)

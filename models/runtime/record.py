"""What a pipeline run says beside its labels: times, counts, refusals."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.runtime.numbers import Numbers

__all__ = ["NetworkTime", "PipelineRefusal", "PipelineResult", "StageTime", "Stopwatch"]


@dataclass(frozen=True, slots=True)
class NetworkTime:
    """One pass of a network, wall time."""

    network: str
    target: str
    precision: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StageTime:
    """One piece of the work around the networks, wall time."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PipelineRefusal:
    """Why the pipeline will not answer: a reason code and the values that led to it."""

    reason: str
    values: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """Labels uint8 [k, j, i] on the source grid, or a refusal (then None), and how it went.

    `numbers`: of the outputs of kind values, by the output's name. `lacking`: roles that were not
    given, and were seen as zeros.
    """

    labels: NDArray[np.uint8] | None
    voxels: Mapping[int, int]
    networks: tuple[NetworkTime, ...]
    stages: tuple[StageTime, ...]
    refusal: PipelineRefusal | None = None
    numbers: Mapping[str, Numbers] = field(default_factory=dict[str, Numbers])
    lacking: tuple[str, ...] = ()


class Stopwatch:
    """Collects the wall times of one run; owned by the thread that runs it."""

    def __init__(self) -> None:
        self.networks: list[NetworkTime] = []
        self.stages: list[StageTime] = []

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Time a piece of work, less what networks took in it."""
        start, before = time.perf_counter(), self._in_networks()
        yield
        inside = self._in_networks() - before
        self.stages.append(StageTime(name, time.perf_counter() - start - inside))

    @contextmanager
    def network(self, name: str, target: str, precision: str) -> Generator[None]:
        """Time one pass of a network."""
        start = time.perf_counter()
        yield
        self.networks.append(NetworkTime(name, target, precision, time.perf_counter() - start))

    def _in_networks(self) -> float:
        return sum(one.seconds for one in self.networks)

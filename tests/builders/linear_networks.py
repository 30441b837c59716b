"""Networks that can be understood, and plans that are run around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from models.manifest.plan import AnyStep, NetworkFacts, check_plan
from models.manifest.plan.members import kept_apart
from models.runtime.crew import Crew
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.record import Stopwatch
from models.runtime.running import Run
from models.runtime.scores import Scores
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step

F32 = NDArray[np.float32]
CREW = Crew(2)
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
STEPS: TypeAdapter[tuple[AnyStep, ...]] = TypeAdapter(tuple[AnyStep, ...])
ORIENT = {"do": "orient", "in": "image", "axes": "RAS", "out": "head"}
WINDOW = {
    "do": "normalise",
    "in": "head",
    "by": {"kind": "window", "low": 0.0, "high": 100.0, "to": [0.0, 1.0]},
    "out": "scaled",
}


@dataclass(frozen=True, slots=True)
class Linear:
    """Class k of a voxel scores its value * gains[k] + offsets[k]; loses `margin` on each side."""

    name: str
    gains: tuple[float, ...]
    offsets: tuple[float, ...]
    shape: tuple[int, int, int] = (8, 8, 8)
    margin: tuple[int, int, int] = (0, 0, 0)
    # Also looks at where in the patch a voxel lies, so that mirror passes differ.
    slope: float = 0.0
    target: str = "cpu"
    precision: str = "f32"
    seen: list[F32] = field(default_factory=list[F32])

    def scores(self, batch: F32) -> F32:
        self.seen.append(batch.copy())
        inner = tuple(
            slice(lost, side - lost) for lost, side in zip(self.margin, self.shape, strict=True)
        )
        along = np.arange(batch.shape[2], dtype=np.float32)[:, None, None] * self.slope
        value = (batch[:, 0] + along)[(slice(None), *inner)]
        parts = [value * g + o for g, o in zip(self.gains, self.offsets, strict=True)]
        return np.stack(parts, axis=1).astype(np.float32)

    def release(self) -> None:
        """Nothing is held."""

    @property
    def facts(self) -> NetworkFacts:
        return NetworkFacts(1, self.shape, self.margin, len(self.gains))


def steps(*described: Mapping[str, Any]) -> tuple[AnyStep, ...]:
    return STEPS.validate_python(described)


def ran(
    volume: NDArray[Any],
    networks: Sequence[Linear],
    *described: Mapping[str, Any],
    budget_bytes: int = 1 << 28,
) -> Run:
    plan = steps(*described)
    check_plan(plan, ("image",), (plan[-1].out,), {one.name: one.facts for one in networks})
    source = SourceVolume(volume, AFFINE)
    facts = {one.name: one.facts for one in networks}
    named = {one.name: one for one in networks}
    run = Run({"image": source}, named, CREW, Stopwatch(), facts, budget_bytes)
    run.apart = kept_apart(plan)
    run.keep("image", Image(source_grid("image", source), ()))
    for step in plan:
        run_step(step, run)
    return run


def whole(run: Run, name: str) -> F32:
    """Every score of the merged slabs, [k, a0, a1, a2]."""
    scores = run.values[name]
    assert isinstance(scores, Scores)
    slabs = sorted(scores.slabs, key=lambda slab: slab.first)
    return np.concatenate([slab.scores for slab in slabs], axis=slabs[0].axis + 1)

"""Each setting of each step decides something: another value is refused, or gives another result.

Which settings there are is read from the steps' own classes, so that a new one fails here until a
case uses it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter, ValidationError
from scipy import ndimage

from models.manifest.base import Part
from models.manifest.plan import AnyStep, NetworkFacts, PlanError, check_plan
from models.manifest.plan.heads import head_of
from models.manifest.plan.members import kept_apart
from models.manifest.roles import Align
from models.runtime.crew import Crew
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.numbers import Numbers
from models.runtime.record import Stopwatch
from models.runtime.running import NothingFound, Refused, Run
from models.runtime.scores import Scores
from models.runtime.segments import Segments
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step
from tests.builders.mutations import candidates, leaves, replaced, value_at
from tests.builders.plans_of_every_setting import CASES, EXCEPT, Described

F32 = NDArray[np.float32]
STEPS: TypeAdapter[tuple[AnyStep, ...]] = TypeAdapter(tuple[AnyStep, ...])


@dataclass(frozen=True, slots=True)
class Looking:
    """A network that looks around each voxel, and at where in its patch the voxel lies."""

    name: str
    gains: tuple[float, ...]
    shape: tuple[int, int, int] = (8, 8, 8)
    margin: tuple[int, int, int] = (0, 0, 0)
    side: int = 3
    target: str = "cpu"
    precision: str = "f32"

    def scores(self, batch: F32) -> F32:
        inner = tuple(
            slice(lost, side - lost) for lost, side in zip(self.margin, self.shape, strict=True)
        )
        around = ndimage.uniform_filter(
            batch.mean(axis=1), self.side, mode="constant", axes=(1, 2, 3)
        )
        x, y, z = np.meshgrid(*map(np.arange, batch.shape[2:]), indexing="ij")
        value = (around + 0.03 * x - 0.02 * y + 0.01 * z)[(slice(None), *inner)]
        # Of three classes each wins somewhere.
        parts = [value * gain + 0.2 * (gain == self.gains[2]) for gain in self.gains]
        return np.stack(parts, axis=1).astype(np.float32)

    def release(self) -> None:
        """Nothing is held."""

    @property
    def facts(self) -> NetworkFacts:
        channels = 2 if self.name == "two" else 1
        return NetworkFacts(channels, self.shape, self.margin, len(self.gains))


NETWORKS = {
    network.name: network
    for network in (
        Looking("one", (1.0, -1.0, 0.1)),
        Looking("other", (0.8, -0.6, 0.2)),
        Looking("narrow", (1.0, -1.0, 0.1), margin=(1, 2, 0)),
        Looking("sharp", (1.0, -1.0, 0.1), side=1),
        Looking("two", (0.7, -1.0, 0.1)),
    )
}
FACTS = {name: network.facts for name, network in NETWORKS.items()}


def described(plan: list[Described]) -> list[Described]:
    """The plan with every setting that is left to a default, but those that are not used."""
    validated = STEPS.validate_python(plan)
    return [step.model_dump(mode="json", by_alias=True, exclude_none=True) for step in validated]


def volume(turned_by: float = 0.0) -> SourceVolume:
    """A bright ball that fades, noise, and a rim of zeros; values below zero too.

    `turned_by`: radians about the axis from the feet to the head, of where it is said to lie.
    """
    random = np.random.default_rng(3)
    places = np.stack(np.meshgrid(*map(np.arange, (11, 13, 17)), indexing="ij"), axis=-1)
    apart = np.linalg.norm((places - np.array([5, 6, 7])) * [1.2, 0.9, 0.8], axis=-1)
    values = 130.0 - 22.0 * apart + random.normal(0.0, 15.0, apart.shape)
    values[:, :2] = 0.0
    affine = np.diag([-0.9, 0.8, 1.3, 1.0])[:, [1, 0, 2, 3]]
    cosine, sine = np.cos(turned_by), np.sin(turned_by)
    turn = np.array([[cosine, -sine, 0, 0], [sine, cosine, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return SourceVolume(values.astype(np.int16), turn @ affine)


SOURCE = volume()
SOURCES = {"image": SOURCE, "other": volume(turned_by=0.1)}
ALIGNS = {"other": Align(to="image", by="rigid", refuse_below=0.1)}
TITLES = {"image": "The image", "other": "The other"}


def outcome(plan: list[Described], names: list[str]) -> list[Any] | str:
    """What is refused, in words; or the heads of the networks and the content of each value."""
    try:
        steps = STEPS.validate_python(plan)
        made = [step.out for step in steps]
        read = {name for step in steps for name in step.reads()}
        inputs = tuple(role for role in SOURCES if role in read)
        check_plan(steps, inputs, tuple(made), FACTS, ALIGNS)
    except (ValidationError, PlanError) as error:
        return str(error)
    if made != names:
        return "other names"
    run = Run(SOURCES, NETWORKS, Crew(1), Stopwatch(), FACTS, 1 << 28, aligns=ALIGNS, titles=TITLES)
    for role, source in SOURCES.items():
        run.keep(role, Image(source_grid(role, source), ()))
    run.read_later = frozenset(made)
    run.apart = kept_apart(steps)
    heads = [head_of(steps, name, 1) for step in steps for name in getattr(step, "members", ())]
    found: list[Any] = [heads]
    for step in steps:
        try:
            run_step(step, run)
        except (Refused, NothingFound) as end:
            return type(end).__name__
        found.append(content(run, step.out))
    return found


def content(run: Run, name: str) -> Any:
    value = run.values[name]
    if isinstance(value, Scores):
        return None
    if isinstance(value, Numbers):
        return np.array([[*each.values()] for _, each in sorted(value.of_segments.items())])
    if isinstance(value, Image):
        return np.stack(value.arrays(run.crew))
    assert isinstance(value, Segments)
    on_slices = name == "back" or value.grid.change is None
    whole = np.zeros(SOURCE.shape if on_slices else value.grid.shape, np.uint8)
    if on_slices:
        value.write(whole, run.crew)
    elif value.labels is not None:
        whole[value.box] = value.labels
    return whole


def same(one: list[Any], other: list[Any]) -> bool:
    return one[0] == other[0] and all(
        mine is theirs
        or (isinstance(mine, np.ndarray) and np.array_equal(mine, theirs, equal_nan=True))
        for mine, theirs in zip(one[1:], other[1:], strict=True)
    )


def test_results_are_the_same_each_time() -> None:
    """Without this, whatever is mutated would seem to count."""
    for plan in CASES:
        names = [step["out"] for step in plan]
        one, other = outcome(plan, names), outcome(plan, names)
        assert isinstance(one, list), one
        assert isinstance(other, list)
        assert same(one, other)


@pytest.mark.parametrize("place", range(len(CASES)))
def test_another_value_is_refused_or_gives_another_result(place: int) -> None:
    plan = described(CASES[place])
    names = [step["out"] for step in plan]
    own = outcome(plan, names)
    assert isinstance(own, list), own
    idle: list[str] = []
    for path in leaves(plan):
        others = [
            outcome(changed, names)
            for value in candidates(value_at(plan, path))
            if not the_same_plan(plan, changed := replaced(plan, path, value))
        ]
        taken = [one for one in others if isinstance(one, list)]
        # A single other value may mean the same here: a step of a sixteenth more, the same tiles.
        if taken and all(same(one, own) for one in taken):
            idle.append(".".join(map(str, path)))
    idle = [
        name
        for name in idle
        if name != EXCEPT.get(place) and not _is_default_that_another_plan_changes(place, name)
    ]
    assert not idle, f"other values of {idle} are taken, and change nothing"


def _is_default_that_another_plan_changes(place: int, name: str) -> bool:
    node: Any = CASES[place]
    *before, last = [int(step) if step.isdigit() else step for step in name.split(".")]
    for step in before:
        node = node[step]
    return last not in node and any(last in each for plan in CASES for each in _mappings(plan))


def _mappings(node: Any) -> Iterator[Described]:
    if isinstance(node, dict):
        yield node
    if isinstance(node, dict | list):
        for below in node.values() if isinstance(node, dict) else node:
            yield from _mappings(below)


def the_same_plan(one: list[Described], other: list[Described]) -> bool:
    try:
        return STEPS.validate_python(one) == STEPS.validate_python(other)
    except ValidationError:
        return False


def test_every_setting_of_every_step_is_in_a_case() -> None:
    known = {
        (part.__name__, name)
        for step in get_args(get_args(AnyStep)[0])
        for part in parts_of(step)
        for name in part.model_fields
    }
    used: set[tuple[str, str]] = set()
    for plan in CASES:
        for step in STEPS.validate_python(plan):
            used |= set(settings_of(step))
    assert known - used == set()


def parts_of(part: type[Part]) -> Iterator[type[Part]]:
    yield part
    for field in part.model_fields.values():
        for below in classes_in(field.annotation):
            yield from parts_of(below)


def classes_in(annotation: Any) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation  # type: ignore[misc]
    elif get_origin(annotation) is not None:
        for below in get_args(annotation):
            yield from classes_in(below)


def settings_of(part: Part) -> Iterator[tuple[str, str]]:
    for name in type(part).model_fields:
        value = getattr(part, name)
        if value is not None and value != ():
            yield type(part).__name__, name
        if isinstance(value, Part):
            yield from settings_of(value)

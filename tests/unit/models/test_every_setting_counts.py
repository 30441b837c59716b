"""Each setting of each step decides something: another value is refused, or gives another result.

Which settings there are is read from the steps' own classes, so that a new one fails here until a
case uses it.
"""

from __future__ import annotations

import itertools
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

F32 = NDArray[np.float32]
STEPS: TypeAdapter[tuple[AnyStep, ...]] = TypeAdapter(tuple[AnyStep, ...])
Described = dict[str, Any]


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

ORIENT: Described = {"do": "orient", "in": "image", "axes": "RAS", "out": "head"}
SCALED: Described = {
    "do": "normalise",
    "in": "head",
    "by": {"kind": "window", "low": 0.0, "high": 100.0, "to": [-1.0, 1.0]},
    "out": "scaled",
}
TILES: Described = {"kind": "tiles", "starts": "nnunet", "step": 0.5, "weight": "gaussian-nnunet"}
INFER: Described = {
    "do": "infer",
    "in": "scaled",
    "members": ["one"],
    "tiling": TILES,
    "activation": "none",
    "out": "scores",
}
ARGMAX: Described = {
    "do": "decide",
    "in": "scores",
    "rule": {"kind": "argmax", "segments": [1, 2]},
    "out": "found",
}
SMALL: Described = {
    "do": "resample",
    "in": "head",
    "onto": {"shape": [8, 8, 8]},
    "order": "nearest",
    "centres": "half-pixel",
    "out": "small",
}


def resampled(onto: Described, order: str, centres: str) -> list[Described]:
    return [ORIENT, {**SMALL, "onto": onto, "order": order, "centres": centres}]


def fused(**rule: Any) -> list[Described]:
    """Segments of three members, of which each sees something else."""
    plan: list[Described] = [ORIENT, SCALED]
    for member in ("one", "other", "sharp"):
        plan.append({**INFER, "members": [member], "out": f"of-{member}"})
        plan.append({**ARGMAX, "in": f"of-{member}", "out": f"found-{member}"})
    others = ["found-other", "found-sharp"]
    combine = {"do": "combine", "in": "found-one", "and": others, "rule": rule, "out": "fused"}
    return [*plan, combine]


def parts(wins: str) -> list[Described]:
    """Two part-models, which find segments of their own."""
    plan = fused(kind="parts", wins=wins)
    del plan[-3:-1]
    plan[-2] = {**plan[-2], "rule": {"kind": "argmax", "segments": [4, 3]}}
    return [*plan[:-1], {**plan[-1], "and": ["found-other"]}]


def scored(rule: Described, activation: str = "softmax") -> list[Described]:
    """Scores of two members with steps of their own, merged."""
    one = {**INFER, "activation": activation, "out": "of-one"}
    sharp = {**INFER, "activation": activation, "members": ["sharp"], "out": "of-sharp"}
    combine = {"do": "combine", "in": "of-one", "and": ["of-sharp"], "rule": rule, "out": "scores"}
    return [ORIENT, SCALED, one, sharp, combine, ARGMAX]


def restored(across: str | None, **rule: Any) -> list[Described]:
    """Scores of planes that lie far apart, decided on the slices."""
    thick = {**SMALL, "onto": {"spacing_mm": [1.0, 1.0, 4.0]}, "out": "thick"}
    restore = {"do": "restore", "in": "scores", "to": "image", "out": "back-scores"}
    restore |= {} if across is None else {"across": across}
    decide = {**ARGMAX, "in": "back-scores", "rule": rule}
    return [ORIENT, thick, {**SCALED, "in": "thick"}, INFER, restore, decide]


TRUNCATE: Described = {**SCALED, "in": "small", "by": {"kind": "truncate"}}


def cropped(around: Described, margin: Described, *before: Described) -> list[Described]:
    crop = {"do": "crop", "in": "head", "around": around, "margin": margin, "out": "part"}
    return [ORIENT, *before, crop]


def normalised(**by: Any) -> list[Described]:
    return [ORIENT, {**SCALED, "by": by}]


def decided(**rule: Any) -> list[Described]:
    infer = {**INFER, "activation": "softmax"}
    return [ORIENT, SCALED, infer, {**ARGMAX, "rule": rule}]


def inferred(tiling: Described, **settings: Any) -> list[Described]:
    return [ORIENT, SCALED, {**INFER, "tiling": tiling, **settings}, ARGMAX]


def cleaned(segment: int, **by: Any) -> list[Described]:
    """Segment 1 is what is dark, with holes, and 2 what lies between: many small components."""
    clean = {"do": "clean", "in": "found", "segment": segment, "by": by, "out": "tidy"}
    return [ORIENT, SCALED, {**INFER, "members": ["sharp"]}, ARGMAX, clean]


def measured(**interval: Any) -> list[Described]:
    """Three members that find segments of their own."""
    infer = {**INFER, "members": ["one", "other", "sharp"], "activation": "softmax"}
    step = {"do": "measure-uncertainty", "in": "found", "interval": interval, "out": "unsure"}
    return [ORIENT, SCALED, infer, ARGMAX, step]


def of_two(*steps: Described) -> list[Described]:
    """Both images, oriented, and what is done to the second."""
    other = {**ORIENT, "in": "other", "out": "second"}
    return [ORIENT, other, *steps]


def joined(**rule: Any) -> list[Described]:
    """What a smooth and a sharp member find, and what is made of both."""
    plan = fused(**rule)
    del plan[4:6]  # the member between
    plan[-1] = {**plan[-1], "and": ["found-sharp"]}
    return plan


def pieces(**rule: Any) -> list[Described]:
    """Of the many components that a sharp member finds, those that a smooth one finds too."""
    plan = joined(**rule)
    plan[-2] = {**plan[-2], "rule": {"kind": "argmax", "segments": [0, 2]}}
    return [*plan[:-1], {**plan[-1], "in": "found-sharp", "and": ["found-one"]}]


def bright(at: float) -> list[Described]:
    """What is brighter than a value."""
    rule = {"kind": "above", "at": at, "segment": 3}
    return [ORIENT, {**ARGMAX, "in": "head", "rule": rule}]


REGISTER = {"do": "register", "in": "second", "to": "head", "out": "there"}
LIKE: Described = {"do": "resample", "onto": {"like": "head"}, "out": "like"}
BALL = decided(kind="threshold", channel=0, at=0.2, segment=1)[1:]
MONAI = {"kind": "tiles", "starts": "monai", "step": 0.7, "weight": "gaussian-monai"}
ABOVE = {"of": "head", "above": 60.0, "plane_share": 0.05}
CASES: list[list[Described]] = [
    [ORIENT],
    [{**ORIENT, "axes": "jki"}],
    *(
        resampled({"spacing_mm": [1.1, 2.0, 1.5]}, order, centres)
        for order, centres in itertools.product(
            ("nearest", "linear", "cubic"), ("half-pixel", "aligned", "spacing")
        )
    ),
    resampled({"shape": [7, 9, 10]}, "linear", "aligned"),
    resampled({"spacing_mm": [1.1, None, 1.5]}, "linear", "half-pixel"),
    [
        ORIENT,
        {
            **SMALL,
            "onto": {"spacing_mm": [1.0, 0.9, 5.0]},
            "order": "cubic",
            "across": "linear",
        },
    ],
    [ORIENT, {"do": "pad", "in": "head", "at_least": [20, 20, 14], "value": 2.0, "out": "wide"}],
    [ORIENT, {"do": "pad", "in": "head", "multiple_of": [4, 3, 5], "value": 2.0, "out": "wide"}],
    of_two(REGISTER, {**LIKE, "in": "there", "order": "linear"}),
    of_two(REGISTER, {**LIKE, "in": "there", "order": "nearest"}),
    fused(kind="majority", tie="background"),
    fused(kind="staple"),
    fused(kind="simple", regions=[[2], [1]], drop_below=0.9),
    parts("later"),
    scored({"kind": "mean"}),
    scored({"kind": "weighted", "weights": [0.2, 0.7]}),
    restored("nearest", kind="argmax", segments=[1, 2]),
    restored("linear", kind="regions", at=0.25, segments=[1, 3, 2]),
    restored(None, kind="threshold", channel=0, at=0.1, segment=2),
    cropped(ABOVE, {"voxels": 2}),
    cropped(ABOVE, {"mm": 4.0}),
    cropped(ABOVE, {"share": 0.3}),
    cropped({"nonzero": "head"}, {"voxels": 1}),
    cropped({"of": "found", "plane_share": 0.02}, {"voxels": 1}, *BALL),
    normalised(kind="window", low=5.0, high=80.0, to=[0.0, 1.0]),
    normalised(kind="window", low=5.0, high=80.0, mean=30.0, std=20.0),
    normalised(kind="zscore", over="all"),
    normalised(kind="zscore", over="nonzero", unbiased=True),
    normalised(kind="zscore", over="positive"),
    normalised(kind="zscore", over="filled"),
    normalised(kind="factor", factor=0.7),
    [*resampled({"spacing_mm": [1.1, 2.0, 1.5]}, "linear", "aligned"), TRUNCATE],
    normalised(kind="minmax"),
    normalised(kind="quantiles", low=0.1, high=0.9),
    [
        ORIENT,
        SMALL,
        {
            **SCALED,
            "by": {
                "kind": "quantile-standardise",
                "of": "small",
                "low": 0.1,
                "high": 0.9,
                "mean": 0.4,
                "std": 0.2,
            },
        },
    ],
    [
        ORIENT,
        SCALED,
        {"do": "stack", "in": "scaled", "and": ["scaled"], "out": "both"},
        {**INFER, "in": "both", "members": ["two"]},
        ARGMAX,
    ],
    inferred(TILES, members=["one", "other"]),
    inferred(TILES, mirror=[0, 1]),
    *(
        inferred(TILES, members=["one", "sharp"], merge=merge, activation=activation)
        for merge, activation in (
            ({"kind": "weighted", "weights": [[0.2, 0.5, 0.7], [0.6, 0.3, 0.1]]}, "none"),
            ({"kind": "confidence", "by": "largest", "power": 2.0}, "softmax"),
            ({"kind": "confidence", "by": "region"}, "sigmoid"),
            ({"kind": "entropy", "weight": "linear"}, "softmax"),
            ({"kind": "entropy", "weight": "exponential", "of": "regions"}, "sigmoid"),
        )
    ),
    inferred(MONAI),
    inferred(
        {"kind": "tiles", "starts": "edge-to-edge", "empty": {"at_most": 0.9, "as_class": 1}},
        activation="softmax",
    ),
    inferred({**MONAI, "weight": "constant"}, activation="sigmoid"),
    [
        ORIENT,
        SCALED,
        {**INFER, "activation": "softmax", "merge": {"kind": "mean", "of": "logits"}},
        {**ARGMAX, "rule": {"kind": "regions", "at": 0.3, "segments": [1, 3, 2]}},
    ],
    inferred({"kind": "tiles", "starts": "edge-to-edge", "outside": 1.0}, members=["narrow"]),
    [
        ORIENT,
        SMALL,
        {**SCALED, "in": "small"},
        {**INFER, "tiling": {"kind": "whole"}},
        ARGMAX,
    ],
    decided(kind="threshold", channel=0, at=0.4, segment=2),
    decided(kind="argmax", segments=[2, 1]),
    decided(kind="regions", at=0.3, segments=[1, 3, 2]),
    cleaned(1, kind="largest-component", connectivity=6),
    cleaned(1, kind="fill-holes"),
    cleaned(2, kind="remove-small", connectivity=18, below_ml=0.002),
    cleaned(2, kind="largest-component", connectivity=6, second_above=0.75),
    cleaned(2, kind="close", connectivity=6),
    cleaned(2, kind="drop", below_ml=0.2),
    bright(60.0),
    joined(kind="union", segment=5),
    joined(kind="inside"),
    pieces(kind="overlapping", connectivity=6, share=0.89),
    normalised(kind="zscore", over="nonzero", zeros="noise"),
    inferred(TILES, view=[1, 2, 0]),
    inferred({"kind": "tiles", "starts": "centred", "outside": 0.5}, members=["narrow"]),
    inferred({"kind": "tiles", "starts": "centred", "outside": "noise"}, members=["narrow"]),
    [ORIENT, SCALED, INFER, ARGMAX, {"do": "restore", "in": "found", "to": "image", "out": "back"}],
    measured(kind="extremes"),
    measured(kind="quantiles", low=0.1, high=0.6),
]
# Plans for a setting that leaves others without effect; those count in plans above.
NOT_FOUND = cropped({**ABOVE, "plane_share": 0.25}, {"voxels": 2})
PARTLY: list[tuple[list[Described], str]] = [
    ([*NOT_FOUND[:-1], {**NOT_FOUND[-1], "otherwise": "whole"}], "1.margin.voxels"),
    (
        cleaned(1, kind="remove-small", connectivity=26, below_ml=3.0, alone_stays=True),
        "4.by.below_ml",
    ),
]
EXCEPT = {len(CASES) + place: idle for place, (_, idle) in enumerate(PARTLY)}
CASES.extend(plan for plan, _ in PARTLY)


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

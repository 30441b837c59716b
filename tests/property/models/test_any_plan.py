"""Any order of steps is refused by lint, or it runs without an error and changes no value.

Plans are grown at random from settings of every step, and each step is kept when it is linted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from models.manifest.plan import AnyStep, LayersType, PlanError, check_plan
from models.manifest.plan.members import kept_apart
from models.runtime.crew import Crew
from models.runtime.grid import Cropped, Grid, Moved, Oriented, Padded, Resampled, source_grid
from models.runtime.images import Image
from models.runtime.numbers import Numbers
from models.runtime.record import Stopwatch
from models.runtime.running import NothingFound, Refused, Run, Seen, Value
from models.runtime.scores import Scores
from models.runtime.segments import Segments
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step
from tests.builders.linear_networks import Linear

STEPS: TypeAdapter[tuple[AnyStep, ...]] = TypeAdapter(tuple[AnyStep, ...])
NETWORKS = (
    Linear("one", (1.0, -1.0), (0.0, 0.6)),
    Linear("other", (0.5, 0.2), (0.1, 0.3)),
    Linear("narrow", (1.0, -1.0), (0.0, 0.6), margin=(1, 2, 0)),
    Linear("wide", (1.0, -1.0), (0.0, 0.6), shape=(6, 6, 10)),
)
SETTINGS: list[dict[str, Any]] = [
    {"do": "orient", "axes": "RAS"},
    {"do": "orient", "axes": "ILP"},
    {
        "do": "resample",
        "onto": {"shape": [8, 8, 8]},
        "order": "nearest",
        "centres": "half-pixel",
    },
    {
        "do": "resample",
        "onto": {"spacing_mm": [1.0, 2.0, 1.5]},
        "order": "linear",
        "centres": "spacing",
    },
    {"do": "resample", "onto": {"shape": [9, 7, 11]}, "order": "cubic", "centres": "aligned"},
    {"do": "crop", "above": 40.0, "margin": {"voxels": 1}},
    {"do": "crop", "above": 40.0, "margin": {"mm": 3.0}},
    {"do": "crop", "margin": {"share": 0.2}},
    {"do": "normalise", "by": {"kind": "window", "low": 0.0, "high": 100.0, "to": [0.0, 1.0]}},
    {"do": "normalise", "by": {"kind": "zscore", "over": "nonzero"}},
    {"do": "normalise", "quantiles": True},
    {"do": "stack"},
    {"do": "infer", "members": ["one"], "tiling": {"kind": "whole"}, "activation": "none"},
    {
        "do": "infer",
        "members": ["one", "other"],
        "tiling": {"kind": "tiles", "starts": "nnunet", "step": 0.5},
        "activation": "sigmoid",
        "merge": {"kind": "mean", "of": "logits"},
    },
    {
        "do": "infer",
        "members": ["narrow"],
        "tiling": {"kind": "tiles", "starts": "edge-to-edge"},
        "activation": "none",
    },
    {
        "do": "infer",
        "members": ["one", "wide"],
        "tiling": {"kind": "tiles", "starts": "monai"},
        "activation": "none",
    },
    {"do": "decide", "rule": {"kind": "threshold", "channel": 0, "at": 0.5, "segment": 2}},
    {"do": "decide", "rule": {"kind": "argmax", "segments": [1]}},
    {"do": "decide", "rule": {"kind": "regions", "at": 0.5, "segments": [1, 2]}},
    {"do": "clean", "segment": 1, "by": {"kind": "largest-component", "connectivity": 6}},
    {"do": "clean", "segment": 2, "by": {"kind": "fill-holes"}},
    {"do": "restore", "to": "image"},
    {"do": "restore", "to": "image", "across": "nearest"},
    {"do": "combine", "rule": {"kind": "majority", "tie": "background"}},
    {"do": "combine", "rule": {"kind": "parts", "wins": "earlier"}},
    {"do": "combine", "rule": {"kind": "staple"}},
    {"do": "combine", "rule": {"kind": "mean"}},
    {
        "do": "infer",
        "members": ["one", "other"],
        "tiling": {"kind": "tiles", "starts": "nnunet", "step": 0.5},
        "activation": "softmax",
        "merge": {"kind": "entropy"},
    },
    {"do": "orient", "axes": "jki"},
    {"do": "crop", "nonzero": True, "margin": {"voxels": 0}},
    {"do": "normalise", "by": {"kind": "zscore", "over": "filled"}},
    {"do": "normalise", "by": {"kind": "factor", "factor": 0.5}},
    {"do": "normalise", "by": {"kind": "truncate"}},
    {
        "do": "resample",
        "onto": {"spacing_mm": [None, 1.3, 1.5]},
        "order": "cubic",
        "centres": "half-pixel",
        "across": "nearest",
    },
    {"do": "measure-uncertainty", "interval": {"kind": "extremes"}},
    {"do": "pad", "multiple_of": [4, 3, 7], "value": -1.0},
    {"do": "pad", "at_least": [12, 1, 16], "value": 0.0},
    {"do": "resample", "like": True, "order": "linear"},
    {"do": "resample", "like": True, "order": "nearest"},
]


# What every network needs; the other half of the plans makes its own way.
BEGINNING: list[dict[str, Any]] = [
    {"do": "orient", "in": "image", "axes": "RAS", "out": "head"},
    {"do": "normalise", "in": "head", "by": {"kind": "zscore", "over": "all"}, "out": "scaled"},
]


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Steps that read what is there, grown one by one; each is tried until it is linted."""
    made: list[dict[str, Any]] = list(BEGINNING) if draw(st.booleans()) else []
    for place in range(draw(st.integers(2, 9))):
        names = ["image", *(step["out"] for step in made)]
        # Later values are read more often, as in plans that people write.
        source = names[
            max(draw(st.integers(0, len(names) - 1)), draw(st.integers(0, len(names) - 1)))
        ]
        other = draw(st.sampled_from(names))
        step = {**draw(st.sampled_from(SETTINGS)), "in": source, "out": f"v{place}"}
        if step["do"] == "crop":
            nonzero = step.pop("nonzero", False)
            found = {"of": other, "above": step.pop("above", None)}
            step["around"] = {"nonzero": other} if nonzero else found
        if step["do"] in ("stack", "combine"):
            step["and"] = [other]
        if step.pop("like", False):
            step["onto"] = {"like": other}
        if step.pop("quantiles", False):
            by = {"kind": "quantile-standardise", "of": other, "low": 0.1, "high": 0.9}
            step["by"] = {**by, "mean": 0.4, "std": 0.2}
        if _refusal([*made, step], everything=True) is None:
            made.append(step)
    return made


def _refusal(described: list[dict[str, Any]], *, everything: bool) -> PlanError | None:
    facts = {network.name: network.facts for network in NETWORKS}
    read = tuple(step["out"] for step in described) if everything else (described[-1]["out"],)
    try:
        check_plan(STEPS.validate_python(described), ("image",), (*read, "image"), facts)
    except PlanError as error:
        return error
    return None


def _volume() -> SourceVolume:
    noise = np.random.default_rng(3).integers(0, 60, (9, 10, 13))
    noise[3:7, 2:8, 4:10] += 50
    affine = np.diag([-0.9, 0.8, 2.0, 1.0])[:, [1, 0, 2, 3]]
    return SourceVolume(noise.astype(np.int16), affine)


@settings(
    max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
@given(plans())
def test_what_is_linted_runs_and_changes_no_value_that_was_made_before(
    described: list[dict[str, Any]],
) -> None:
    """Every value is the same after the plan as when it was made: no step writes into another's."""
    plan = STEPS.validate_python(described)
    facts = {network.name: network.facts for network in NETWORKS}
    names = tuple(step.out for step in plan)
    types = check_plan(plan, ("image",), (*names, "image"), facts).values
    source = _volume()
    before = source.voxels.copy()
    named = {network.name: network for network in NETWORKS}
    run = Run({"image": source}, named, Crew(1), Stopwatch(), facts, 1 << 28)
    run.read_later = frozenset(names)
    run.apart = kept_apart(plan)
    run.keep("image", Image(source_grid("image", source), ()))
    seen: dict[str, Any] = {}
    try:
        for step in plan:
            run_step(step, run)
            if not isinstance(value := run.values[step.out], Numbers):
                assert _history(value) == [
                    words.split()[0] for words in types[step.out].grid.made_by
                ], "the value lies on another grid than lint says"
            seen[step.out] = _content(run, step.out)
    except (Refused, NothingFound) as end:
        event(type(end).__name__)
    for name, content in seen.items():
        assert _same(_content(run, name), content), f"{name} was changed"
        kind = types[name]
        if isinstance(kind, LayersType) and content is not None:
            assert set(np.unique(content)) <= {0, *kind.segments}
        event(type(kind).__name__)
    assert np.array_equal(source.voxels, before)


def _history(value: Value) -> list[str]:
    """What was done to a value's grid since the scan, in the words of the steps."""
    assert not isinstance(value, Seen | Numbers)
    grid: Grid | None = value.grid
    if isinstance(value, Scores) and value.restored is not None:
        grid = value.restored.to
    words = {
        Oriented: "orient",
        Cropped: "crop",
        Padded: "pad",
        Moved: "register",
        Resampled: "resample",
    }
    done: list[str] = []
    while grid is not None and grid.change is not None:
        done.insert(0, words[type(grid.change)])
        grid = grid.before
    return done


def _content(run: Run, name: str) -> Any:
    """A copy of what a value holds, on its whole grid; None of scores, which are held nowhere."""
    value = run.values[name]
    if isinstance(value, Image):
        if not value.channels:
            return None
        arrays = value.arrays(run.crew)
        assert all(array.shape == value.grid.shape for array in arrays)
        return np.stack(arrays)
    if isinstance(value, Numbers):
        return np.array([[*each.values()] for _, each in sorted(value.of_segments.items())])
    if not isinstance(value, Segments):
        return None
    whole = np.zeros(value.grid.shape, np.uint8)
    if value.labels is not None:
        whole[value.box] = value.labels
    return whole


def _same(one: Any, other: Any) -> bool:
    return one is other or np.array_equal(one, other, equal_nan=True)


MISTAKES = {
    "scores twice": [
        *BEGINNING,
        {**SETTINGS[14], "in": "scaled", "out": "p"},
        {**SETTINGS[16], "in": "p", "out": "a"},
        {**SETTINGS[17], "in": "p", "out": "b"},
    ],
    "turned after a crop": [
        {"do": "orient", "in": "image", "axes": "RAS", "out": "head"},
        {
            "do": "crop",
            "in": "head",
            "around": {"of": "head", "above": 40.0},
            "margin": {"voxels": 1},
            "out": "part",
        },
        {"do": "orient", "in": "part", "axes": "ILP", "out": "turned"},
    ],
    "margins that differ": [
        {"do": "orient", "in": "image", "axes": "RAS", "out": "head"},
        *(
            {
                "do": "crop",
                "in": "head",
                "around": {"of": "head", "above": 40.0},
                "margin": {"voxels": voxels},
                "out": f"part{voxels}",
            }
            for voxels in (1, 2)
        ),
        {"do": "stack", "in": "part1", "and": ["part2"], "out": "both"},
    ],
    "patches that differ": [
        *BEGINNING,
        {**SETTINGS[15], "in": "scaled", "out": "p"},
    ],
    "an image restored": [
        {"do": "orient", "in": "image", "axes": "RAS", "out": "head"},
        {"do": "restore", "in": "head", "to": "image", "out": "back"},
    ],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_would_give_something_else_than_it_says_is_refused(name: str) -> None:
    assert _refusal(MISTAKES[name][:-1], everything=True) is None
    assert _refusal(MISTAKES[name], everything=True) is not None

"""Plans that between them use every setting of every step, for `test_every_setting_counts`."""

from __future__ import annotations

import itertools
from typing import Any

Described = dict[str, Any]

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

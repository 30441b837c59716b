"""Plans of tiles, members, mirror passes and decisions, around networks that can be understood."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest.plan import NetworkFacts, PlanError, check_plan
from models.runtime.crew import Crew
from models.runtime.grid import source_grid
from models.runtime.images import Image
from models.runtime.merging.merger import bytes_needed
from models.runtime.record import Stopwatch
from models.runtime.running import Refused, Run
from models.runtime.source_volume import SourceVolume
from models.runtime.steps import run_step
from models.runtime.tiling import tile
from services.common.fates import Verdict
from tests.builders.linear_networks import CREW, ORIENT, WINDOW, Linear, ran, steps, whole

F32 = NDArray[np.float32]


def canonical(volume: NDArray[Any]) -> NDArray[Any]:
    return volume.transpose(2, 1, 0)


@pytest.fixture
def volume() -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(-20, 120, (11, 13, 19)).astype(np.int16)


TILINGS = [
    {"kind": "tiles", "starts": "nnunet", "step": 0.5, "weight": "gaussian-nnunet"},
    {"kind": "tiles", "starts": "monai", "step": 0.4, "weight": "gaussian-monai", "outside": 0.0},
    {"kind": "tiles", "starts": "edge-to-edge"},
]


@pytest.mark.parametrize("margin", [(0, 0, 0), (2, 1, 0)])
@pytest.mark.parametrize("tiling", TILINGS, ids=lambda tiling: tiling["starts"])
def test_a_voxel_by_voxel_network_gives_the_same_whatever_the_tiles(
    volume: NDArray[np.int16], tiling: dict[str, Any], margin: tuple[int, int, int]
) -> None:
    members = [
        Linear("one", (1.0, 2.0, -1.0), (0.0, 0.5, 1.0), margin=margin),
        Linear("two", (3.0, 0.0, 1.0), (0.5, 0.0, 0.0), margin=margin),
    ]
    infer = {
        "do": "infer",
        "in": "scaled",
        "members": ["one", "two"],
        "tiling": tiling,
        "activation": "none",
        "out": "p",
    }
    found = whole(ran(volume, members, ORIENT, WINDOW, infer), "p")
    scaled = np.clip(canonical(volume), 0, 100) / np.float32(100)
    wanted = [2.0 * scaled + 0.25, 1.0 * scaled + 0.25, 0.0 * scaled + 0.5]
    assert np.allclose(found, wanted, atol=1e-5)


def test_of_empty_tiles_no_network_is_asked(volume: NDArray[np.int16]) -> None:
    held = volume.copy()
    held[:, :8, :8] = 7  # what twelve tiles of 4 answer for; they look at more
    held[0, 0, 0] = 9
    infer: dict[str, Any] = {
        "do": "infer",
        "in": "scaled",
        "members": ["one"],
        "tiling": {"kind": "tiles", "starts": "edge-to-edge"},
        "activation": "softmax",
        "out": "p",
    }
    member = Linear("one", (1.0, 2.0), (0.2, 0.1), margin=(2, 2, 2))
    everywhere = whole(ran(held, [member], ORIENT, WINDOW, infer), "p")
    tiles = len(member.seen)
    for at_most, left_out in ((0.06, 0), (0.08, 11), (0.09, 12), (2.0, tiles)):
        member.seen.clear()
        tiling = {**infer["tiling"], "empty": {"at_most": at_most, "as_class": 1}}
        found = whole(ran(held, [member], ORIENT, WINDOW, {**infer, "tiling": tiling}), "p")
        changed = (found != everywhere).any(axis=0)
        assert len(member.seen) == tiles - left_out
        assert changed.any() == (left_out > 0)
        assert (found[1][changed] == 1).all()
        assert (found[0][changed] == 0).all()
        assert (canonical(held)[changed] <= 100 * at_most).all()


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_members_and_mirror_passes_are_averaged_where_the_plan_says(
    volume: NDArray[np.int16], of: str
) -> None:
    members = [
        Linear("one", (4.0,), (-1.0,), slope=0.3),
        Linear("two", (-2.0,), (3.0,), slope=0.1),
    ]
    infer = {
        "do": "infer",
        "in": "scaled",
        "members": ["one", "two"],
        "tiling": {"kind": "tiles", "starts": "edge-to-edge"},
        "mirror": [0],
        "merge": {"kind": "mean", "of": of},
        "activation": "sigmoid" if of == "logits" else "none",
        "out": "p",
    }
    run = ran(volume, members, ORIENT, WINDOW, infer)
    found = whole(run, "p")[0]
    scaled = np.clip(canonical(volume), 0, 100) / np.float32(100)
    place = (np.arange(scaled.shape[0]) % 8)[:, None, None]
    passes = [
        gain * (scaled + slope * along) + offset
        for gain, offset, slope in ((4.0, -1.0, 0.3), (-2.0, 3.0, 0.1))
        for along in (place, 7 - place)
    ]
    mean = np.mean(passes, axis=0)
    wanted = 1 / (1 + np.exp(-mean)) if of == "logits" else mean
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        ({"kind": "argmax", "segments": [3, 0, 7]}, lambda s: np.array([0, 3, 0, 7])[s.argmax(0)]),
        (
            {"kind": "threshold", "channel": 2, "at": 0.5, "segment": 9},
            lambda s: np.where(s[2] > 0.5, 9, 0),
        ),
        (
            {"kind": "regions", "at": 0.5, "segments": [1, 2, 4, 3]},
            lambda s: np.select([s[3] > 0.5, s[2] > 0.5, s[1] > 0.5, s[0] > 0.5], [3, 4, 2, 1], 0),
        ),
    ],
    ids=["argmax", "threshold", "regions"],
)
def test_scores_become_segments_by_the_rule_and_return_to_the_slices(
    volume: NDArray[np.int16], rule: dict[str, Any], wanted: Any
) -> None:
    network = Linear("one", (0.2, 1.0, 0.6, -1.0), (0.4, 0.0, 0.15, 0.9))
    run = ran(
        volume,
        [network],
        ORIENT,
        WINDOW,
        {
            "do": "infer",
            "in": "scaled",
            "members": ["one"],
            "tiling": {"kind": "tiles", "starts": "nnunet", "step": 0.5},
            "activation": "none",
            "out": "p",
        },
        {"do": "decide", "in": "p", "rule": rule, "out": "found"},
        {"do": "restore", "in": "found", "to": "image", "out": "labels"},
    )
    labels = np.zeros(volume.shape, np.uint8)
    run.segments("labels").write(labels, run.crew)
    scaled = np.clip(volume, 0, 100) / np.float32(100)
    scores = np.stack(
        [scaled * g + o for g, o in zip(network.gains, network.offsets, strict=True)]
    ).astype(np.float32)
    assert np.array_equal(labels, wanted(scores))


@pytest.mark.parametrize("centres", ["half-pixel", "aligned", "spacing"])
@pytest.mark.parametrize("axes", ["RAS", "SPL", "LIP"])
def test_a_ball_comes_back_to_where_it_was(centres: str, axes: str) -> None:
    """Resampled to half the spacing along one axis and more along the others, and back."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (20, 40, 44)), indexing="ij"))
    affine = np.diag([0.9, -0.8, 2.0, 1.0])
    away = ((grid[0] - 10) * 2.0) ** 2 + ((grid[1] - 21) * 0.8) ** 2 + ((grid[2] - 20) * 0.9) ** 2
    ball = (away < 12.0**2).astype(np.int16) * 100
    source = SourceVolume(ball, affine)
    plan = steps(
        {"do": "orient", "in": "image", "axes": axes, "out": "head"},
        {
            "do": "resample",
            "in": "head",
            "onto": {"spacing_mm": [1.0, 1.0, 1.0]},
            "order": "linear",
            "centres": centres,
            "out": "even",
        },
        {**WINDOW, "in": "even"},
        {
            "do": "infer",
            "in": "scaled",
            "members": ["one"],
            "tiling": {"kind": "tiles", "starts": "monai", "step": 1.0},
            "activation": "none",
            "out": "p",
        },
        {
            "do": "decide",
            "in": "p",
            "rule": {"kind": "threshold", "channel": 0, "at": 0.5, "segment": 1},
            "out": "found",
        },
        {"do": "restore", "in": "found", "to": "image", "out": "labels"},
    )
    network = Linear("one", (1.0,), (0.0,))
    facts = {"one": network.facts}
    run = Run({"image": source}, {"one": network}, Crew(1), Stopwatch(), facts, 1 << 28)
    run.keep("image", Image(source_grid("image", source), ()))
    for step in plan:
        run_step(step, run)
    labels = np.zeros(ball.shape, np.uint8)
    run.segments("labels").write(labels, run.crew)
    # A voxel at the surface may change sides; nothing else moves.
    inner, outer = away < 10.5**2, away < 13.5**2
    assert labels[inner].all()
    assert not labels[~outer].any()
    assert abs(int(labels.sum()) - int((ball > 0).sum())) < 0.05 * (ball > 0).sum()


@pytest.mark.parametrize("order", ["nearest", "linear", "cubic"])
def test_what_was_not_measured_stays_out_of_an_interpolation(order: str) -> None:
    """Measured voxels beside padding are what they would be if their values went on behind it."""
    whole = np.broadcast_to(np.linspace(20.0, 90.0, 12, dtype=np.float32), (12, 12, 12))
    whole = whole.transpose(1, 2, 0)
    padded = whole.copy()
    padded[:, :, :4] = np.nan
    padded[3] = np.nan
    step = {"do": "resample", "in": "head", "onto": {"spacing_mm": [0.5, 1.0, 0.7]},
            "order": order, "centres": "half-pixel", "out": "fine"}  # fmt: skip
    (found,) = ran(padded, [], ORIENT, step).image("fine").arrays(CREW)
    (wanted,) = ran(whole, [], ORIENT, step).image("fine").arrays(CREW)
    assert found.shape == (24, 12, 17)
    unmeasured = np.asarray(np.isnan(found))
    assert unmeasured.any(axis=(1, 2)).all()
    assert not np.all(unmeasured[8:], axis=(1, 2)).any()
    np.testing.assert_allclose(found[~unmeasured], wanted[~unmeasured], rtol=1e-5)


@pytest.mark.parametrize("kind", ["minmax", "zscore", "quantiles"])
def test_an_image_without_contrast_is_refused_by_every_scheme(kind: str) -> None:
    by: dict[str, Any] = {"kind": kind}
    by |= {"zscore": {"over": "all"}, "quantiles": {"low": 0.1, "high": 0.9}}.get(kind, {})
    with pytest.raises(Refused) as caught:
        ran(np.full((9, 9, 9), 7.0, np.float32), [], ORIENT, {**WINDOW, "by": by})
    assert caught.value.refusal.reason == "blank_image"


@pytest.mark.parametrize(
    ("merge", "activation", "at_once"),
    [
        ({"kind": "mean"}, "softmax", 1),
        ({"kind": "entropy", "weight": "linear"}, "softmax", 2),
    ],
)
def test_scores_that_cannot_be_merged_in_memory_are_refused_before_a_network_runs(
    volume: NDArray[np.int16], merge: dict[str, Any], activation: str, at_once: int
) -> None:
    members = [Linear(name, (1.0, 2.0), (0.2, 0.1)) for name in ("one", "two")]
    infer = {
        "do": "infer",
        "in": "scaled",
        "members": ["one", "two"],
        "tiling": TILINGS[2],
        "merge": merge,
        "activation": activation,
        "out": "p",
    }
    needed = at_once * bytes_needed(tile((19, 13, 11), (8, 8, 8), 1.0, "blast"), 2)
    ran(volume, members, ORIENT, WINDOW, infer, budget_bytes=needed)
    for member in members:
        member.seen.clear()
    with pytest.raises(Refused) as caught:
        ran(volume, members, ORIENT, WINDOW, infer, budget_bytes=needed - 1)
    assert not any(member.seen for member in members)
    refusal = caught.value.refusal
    said = Verdict(refusal.reason, {"model": "A model", **refusal.values}).sentence
    assert said.startswith("Merging the scores of 2 classes on a grid of 19 x 13 x 11 voxels would")


def test_an_image_that_does_not_fit_in_memory_is_refused_before_it_is_made() -> None:
    tiny = {"do": "resample", "in": "head", "onto": {"spacing_mm": [0.01, 0.01, 0.01]},
            "order": "linear", "centres": "spacing", "out": "tiny"}  # fmt: skip
    with pytest.raises(Refused) as caught:
        ran(np.zeros((11, 13, 19), np.int16), [], ORIENT, tiny)
    assert caught.value.refusal.reason == "too_large"
    needed, allowed = (
        int(caught.value.refusal.values[name]) for name in ("needed_mb", "allowed_mb")
    )
    assert needed > allowed


WRONG: list[tuple[list[dict[str, Any]], tuple[str | int, ...], str]] = [
    (
        [ORIENT, {"do": "resample", "in": "head", "onto": {"shape": [4, 4, 4]}, "order": "linear",
                  "centres": "aligned", "out": "small"},
         {"do": "stack", "in": "head", "and": ["small"], "out": "x"}],
        (2, "and", 0),
        "one grid",
    ),
    ([ORIENT, {**ORIENT}], (1, "out"), "another name"),
    (
        [ORIENT, {"do": "infer", "in": "head", "members": ["one"], "tiling": TILINGS[2],
                  "activation": "none", "out": "p"}],
        (1, "in"),
        "Normalise it first",
    ),
    (
        [ORIENT, {"do": "stack", "in": "head", "and": ["head"], "out": "both"},
         {**WINDOW, "in": "both", "by": {"kind": "quantile-standardise", "of": "head", "low": 0.1,
                                         "high": 0.9, "mean": 0.0, "std": 1.0}}],
        (2, "by", "of"),
        "the same channels",
    ),
    (
        [ORIENT, WINDOW, {"do": "infer", "in": "scaled", "members": ["two-channels"],
                          "tiling": TILINGS[2], "activation": "none", "out": "p"}],
        (2, "in"),
        "Stack the channels",
    ),
    (
        [ORIENT, WINDOW, {"do": "infer", "in": "scaled", "members": ["one"],
                          "tiling": TILINGS[2], "merge": {"kind": "mean", "of": "logits"},
                          "activation": "none", "out": "p"}],
        (2, "activation"),
        "after the mean",
    ),
    (
        [ORIENT, WINDOW, {"do": "infer", "in": "scaled", "members": ["one", "three-classes"],
                          "tiling": TILINGS[2], "activation": "none", "out": "p"}],
        (2, "members"),
        "one number of classes",
    ),
    *(
        ([ORIENT, WINDOW, {"do": "infer", "in": "scaled", "members": ["one"],
                           "tiling": {**TILINGS[2], "empty": {"at_most": 0, "as_class": as_class}},
                           "activation": activation, "out": "p"}],
         (2, "tiling", "empty", *path), remedy)
        for as_class, activation, path, remedy in (
            (0, "none", (), "Leave `empty` out"),
            (0, "sigmoid", (), "Leave `empty` out"),
            (2, "softmax", ("as_class",), "Name one of theirs"),
        )
    ),
    (
        [ORIENT, {"do": "restore", "in": "head", "to": "image", "out": "x"}],
        (1, "in"),
        "Name another value",
    ),
    *(
        ([{**step, "in": "image", "out": "x"}], (0, "in"), "Orient it first")
        for step in (
            {"do": "normalise", "by": {"kind": "minmax"}},
            {"do": "stack", "and": ["image"]},
            {"do": "infer", "members": ["one"], "tiling": TILINGS[2], "activation": "none"},
            {"do": "crop", "around": {"of": "image", "above": 1.0}, "margin": {"voxels": 1}},
            {"do": "resample", "onto": {"shape": [8, 8, 8]}, "order": "nearest",
             "centres": "half-pixel"},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("described", "path", "remedy"), WRONG)
def test_a_plan_that_cannot_work_names_step_field_and_remedy(
    described: list[dict[str, Any]], path: tuple[str | int, ...], remedy: str
) -> None:
    facts = {
        "one": NetworkFacts(1, (8, 8, 8), (0, 0, 0), 2),
        "three-classes": NetworkFacts(1, (8, 8, 8), (0, 0, 0), 3),
        "two-channels": NetworkFacts(2, (8, 8, 8), (0, 0, 0), 2),
    }
    plan = steps(*described)
    with pytest.raises(PlanError) as caught:
        check_plan(plan, ("image",), (plan[-1].out,), facts)
    assert caught.value.path == path
    assert remedy in caught.value.remedy

"""`measure-uncertainty`: the same numbers as from whole arrays, and as from each member alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest.plan import PlanError, check_plan
from models.runtime.merging.activation import sigmoid, softmax
from models.runtime.numbers import Numbers
from models.runtime.running import Run
from models.runtime.segments import Segments
from tests.builders.linear_networks import ORIENT, WINDOW, Linear, ran, steps

SHAPE = (11, 13, 19)
CLASSES = 3


class Softmax(Linear):
    """With the activation built in, as networks have it whose probabilities are merged."""

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return softmax(super().scores(batch)[0])[None]


class Sigmoid(Linear):
    """The same with regions."""

    def scores(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return sigmoid(super().scores(batch))


SETTINGS = [
    ("one", (0.0, 6.0, -5.0), (1.003, -2.5, 2.0)),
    ("two", (0.0, 9.0, -5.0), (1.003, -5.5, 2.5)),
    ("three", (0.0, 5.0, -9.0), (1.003, -1.5, 3.0)),
]
LOGITS = [Linear(*each) for each in SETTINGS]
MEMBERS = [Softmax(*each) for each in SETTINGS]
REGIONS = [Sigmoid(*each) for each in SETTINGS]
NAMES = ["one", "two", "three"]
TILES = {"kind": "tiles", "starts": "nnunet", "step": 0.5, "weight": "gaussian-nnunet"}
EXTREMES = {"kind": "extremes"}
F64 = NDArray[np.float64]
Described = Mapping[str, Any]


@pytest.fixture
def volume() -> NDArray[np.int16]:
    """Smooth, so that members differ at edges, and noise, so that each has islands."""
    places = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    apart = np.linalg.norm(places - np.array([5, 6, 9]), axis=-1)
    noise = np.random.default_rng(1).normal(0, 12, SHAPE)
    return (100 - 11 * apart + noise).astype(np.int16)


def infer(activation: str = "softmax", **more: Any) -> Described:
    return {"do": "infer", "in": "scaled", "members": NAMES, "tiling": TILES,
            "activation": activation, "out": "p", **more}  # fmt: skip


def decide(of: str = "p", **rule: Any) -> Described:
    rule = rule or {"kind": "argmax", "segments": [1, 2]}
    return {"do": "decide", "in": of, "rule": rule, "out": "found"}


def measure(of: str, interval: Described = EXTREMES) -> Described:
    return {"do": "measure-uncertainty", "in": of, "interval": interval, "out": "unsure"}


def numbers(run: Run) -> Mapping[str, Mapping[int, float]]:
    found = run.values["unsure"]
    assert isinstance(found, Numbers)
    assert found.whole == {"members": len(NAMES)}
    return found.of_segments


def logits(volume: NDArray[np.int16]) -> list[F64]:
    """What each member gives, [k, x, y, z]."""
    scaled = np.clip(volume.transpose(2, 1, 0) / 100.0, 0.0, 1.0)
    return [
        np.stack([scaled * g + o for g, o in zip(one.gains, one.offsets, strict=True)])
        for one in LOGITS
    ]


def of_softmax(scores: F64) -> F64:
    powers = np.exp(scores - scores.max(axis=0))
    return powers / powers.sum(axis=0)


def of_sigmoid(scores: F64) -> F64:
    return 1.0 / (1.0 + np.exp(-scores))


def entropy(p: F64) -> F64:
    return -(p * np.log(p)).sum(axis=0)


def of_regions(p: F64) -> F64:
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def softmax_alone(volume: NDArray[np.int16]) -> list[NDArray[np.intp]]:
    return [each.argmax(axis=0) for each in logits(volume)]


def test_numbers_are_those_of_whole_arrays(volume: NDArray[np.int16]) -> None:
    found = numbers(ran(volume, MEMBERS, ORIENT, WINDOW, infer(), decide(), measure("found")))
    each = [of_softmax(one) for one in logits(volume)]
    merged = np.mean(each, axis=0)
    whole, alone = merged.argmax(axis=0), [one.argmax(axis=0) for one in each]
    unsure = entropy(merged)
    shared = unsure - np.mean([entropy(one) for one in each], axis=0)
    for segment in (1, 2):
        masks = [one == segment for one in alone]
        sizes = [mask.sum() / 1000.0 for mask in masks]
        at = whole == segment
        assert at.any()
        assert len(set(sizes)) == len(NAMES), "members that agree prove nothing"
        assert found["volume_ml"][segment] == pytest.approx(at.sum() / 1000.0)
        assert found["volume_low_ml"][segment] == pytest.approx(min(sizes))
        assert found["volume_high_ml"][segment] == pytest.approx(max(sizes))
        assert found["members_finding"][segment] == len(NAMES)
        dice = [
            2 * (one & other).sum() / (one.sum() + other.sum())
            for one, other in itertools.combinations(masks, 2)
        ]
        assert found["disagreement"][segment] == pytest.approx(1 - np.mean(dice))
        most = np.log(CLASSES)
        assert found["entropy"][segment] == pytest.approx(unsure[at].mean() / most, rel=1e-4)
        assert found["mutual_information"][segment] == pytest.approx(
            shared[at].mean() / most, rel=1e-3
        )


def test_regions_are_as_unsure_as_the_most_unsure_of_them(volume: NDArray[np.int16]) -> None:
    rule: dict[str, Any] = {"kind": "regions", "at": 0.5, "segments": [3, 1, 2]}
    plan = (ORIENT, WINDOW, infer("sigmoid"), decide(**rule), measure("found"))
    found = numbers(ran(volume, REGIONS, *plan))
    each = [of_sigmoid(one) for one in logits(volume)]
    merged = np.mean(each, axis=0)
    whole = np.zeros(merged.shape[1:], int)
    for channel, segment in enumerate(rule["segments"]):
        whole[merged[channel] > 0.5] = segment
    unsure = of_regions(merged)
    shared = unsure - np.mean([of_regions(one) for one in each], axis=0)
    for segment in (1, 2):
        at = whole == segment
        assert at.any()
        most = np.log(2)
        assert found["entropy"][segment] == pytest.approx(
            unsure.max(axis=0)[at].mean() / most, rel=1e-4
        )
        assert found["mutual_information"][segment] == pytest.approx(
            shared.max(axis=0)[at].mean() / most, rel=1e-3
        )


def test_of_merged_logits_members_are_their_own_probabilities(volume: NDArray[np.int16]) -> None:
    merge = {"kind": "mean", "of": "logits"}
    plan = (ORIENT, WINDOW, infer(merge=merge), decide(), measure("found"))
    found = numbers(ran(volume, LOGITS, *plan))
    merged = of_softmax(np.mean(logits(volume), axis=0))
    each = [of_softmax(one) for one in logits(volume)]
    shared = entropy(np.mean(each, axis=0)) - np.mean([entropy(one) for one in each], axis=0)
    at = merged.argmax(axis=0) == 1
    assert found["volume_ml"][1] == pytest.approx(at.sum() / 1000.0)
    assert found["entropy"][1] == pytest.approx(entropy(merged)[at].mean() / np.log(3), rel=1e-4)
    assert found["mutual_information"][1] == pytest.approx(shared[at].mean() / np.log(3), rel=1e-3)


def test_the_whole_is_decided_as_without_measuring(volume: NDArray[np.int16]) -> None:
    plan = (ORIENT, WINDOW, infer(), decide())
    one = ran(volume, MEMBERS, *plan).segments("found")
    other = ran(volume, MEMBERS, *plan, measure("found")).segments("found")
    assert one.labels is not None
    assert other.labels is not None
    np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize(
    "interval", [EXTREMES, {"kind": "quantiles", "low": 0.1, "high": 0.7}], ids=["all", "quantiles"]
)
@pytest.mark.parametrize("restored", ["segments", "scores"])
def test_the_interval_is_of_what_each_member_alone_would_have_been_reported_with(
    volume: NDArray[np.int16], restored: str, interval: Mapping[str, Any]
) -> None:
    """Through all steps behind: thicker planes, the largest component, back on the slices."""
    thick = {"do": "resample", "in": "head", "onto": {"spacing_mm": [1.0, 1.0, 1.7]},
             "order": "linear", "centres": "half-pixel", "out": "thick"}  # fmt: skip
    clean = {"do": "clean", "in": "found", "segment": 1,
             "by": {"kind": "largest-component", "connectivity": 6}, "out": "tidy"}  # fmt: skip
    back = {"do": "restore", "to": "image"}
    before = (ORIENT, thick, {**WINDOW, "in": "thick"})
    behind = (
        (decide(), clean, {**back, "in": "tidy", "out": "on-slices"})
        if restored == "segments"
        else ({**back, "in": "p", "out": "q"}, decide("q"), {**clean, "out": "on-slices"})
    )
    plan = (*before, infer(), *behind, measure("on-slices", interval))
    run = ran(volume, MEMBERS, *plan)
    found = numbers(run)
    together, *alone = (
        # Of scores that are restored, members are decided where the scores lie.
        ran(
            volume,
            MEMBERS,
            *(*before, infer(members=names), decide(), clean),
            {**back, "in": "tidy", "out": "on-slices"},
        ).segments("on-slices")
        for names in (NAMES, *([name] for name in NAMES))
    )
    volumes = [_volume_ml(segments) for segments in alone]
    ends = (interval.get("low", 0.0), interval.get("high", 1.0))
    low, high = np.quantile(volumes, ends)
    assert len(set(volumes)) == len(NAMES)
    assert found["volume_low_ml"][1] == pytest.approx(low)
    assert found["volume_high_ml"][1] == pytest.approx(high)
    assert found["volume_ml"][1] == pytest.approx(_volume_ml(together))
    if restored == "segments":
        assert found["volume_ml"][1] == pytest.approx(_volume_ml(run.segments("on-slices")))


def _volume_ml(segments: Segments) -> float:
    assert segments.labels is not None
    return (segments.labels == 1).sum() / 1000.0


def test_members_with_steps_of_their_own_are_told_apart_too(volume: NDArray[np.int16]) -> None:
    each = [infer(members=[name], out=f"p-{name}") for name in NAMES]
    merge = {"do": "combine", "in": "p-one", "and": ["p-two", "p-three"],
             "rule": {"kind": "mean"}, "out": "p"}  # fmt: skip
    apart = ran(volume, MEMBERS, ORIENT, WINDOW, *each, merge, decide(), measure("found"))
    together = ran(volume, MEMBERS, ORIENT, WINDOW, infer(), decide(), measure("found"))
    for name, of_segment in numbers(together).items():
        assert numbers(apart)[name] == pytest.approx(of_segment, rel=1e-5), name


def test_what_nobody_knows_is_left_out_and_what_some_find_is_counted(
    volume: NDArray[np.int16],
) -> None:
    """Segment 2 of a threshold that the mean does not reach, and one member does."""
    each = [of_softmax(one)[1] for one in logits(volume)]
    at = float((np.mean(each, axis=0).max() + max(one.max() for one in each)) / 2)
    rule: dict[str, Any] = {"kind": "threshold", "channel": 1, "at": at, "segment": 2}
    run = ran(volume, MEMBERS, ORIENT, WINDOW, infer(), decide(**rule), measure("found"))
    found = numbers(run)
    masks = [one > at for one in each]
    finding = sum(mask.any() for mask in masks)
    assert 0 < finding < len(NAMES)
    assert found["members_finding"] == {2: finding}
    assert found["volume_ml"] == {2: 0.0}
    assert found["volume_high_ml"][2] == pytest.approx(max(mask.sum() for mask in masks) / 1000.0)
    assert "entropy" not in found, "of no voxel there is no mean"


def test_scores_that_are_no_probabilities_have_no_entropy(volume: NDArray[np.int16]) -> None:
    plan = steps(ORIENT, WINDOW, infer("none"), decide(), measure("found"))
    made = check_plan(plan, ("image",), ("unsure",), {one.name: one.facts for one in MEMBERS}).made
    run = ran(volume, LOGITS, ORIENT, WINDOW, infer("none"), decide(), measure("found"))
    assert set(numbers(run)) == set(made[-1].names)  # type: ignore[union-attr]
    assert "entropy" not in numbers(run)


WRONG = {
    "one member": (
        [infer(members=["one"]), decide(), measure("found")],
        "nobody disagrees",
    ),
    "an image": ([infer(), decide(), measure("scaled")], "layers of segments is wanted"),
    "fused segments": (
        [
            infer(),
            decide(),
            {"do": "combine", "in": "found", "and": ["found"],
             "rule": {"kind": "majority", "tie": "lowest"}, "out": "fused"},
            measure("fused"),
        ],
        "members of them apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_has_no_members_is_refused(name: str) -> None:
    described, problem = WRONG[name]
    plan = steps(ORIENT, WINDOW, *described)
    made = tuple(each.out for each in plan)
    with pytest.raises(PlanError, match=problem) as caught:
        check_plan(plan, ("image",), made, {one.name: one.facts for one in MEMBERS})
    assert caught.value.path == (len(plan) - 1, "in")

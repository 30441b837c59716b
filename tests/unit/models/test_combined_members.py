"""Plans whose members have steps of their own: votes, parts, and scores decided on the slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.manifest.plan import PlanError, check_plan
from models.runtime.running import Run
from tests.builders.linear_networks import ORIENT, WINDOW, Linear, ran, steps

SHAPE = (11, 13, 19)
MEMBERS = [
    Linear("one", (0.0, 1.0, -1.0), (0.0, -0.505, 0.205)),
    Linear("two", (0.0, 2.0, -1.0), (0.0, -1.405, 0.505)),
    Linear("three", (0.0, 1.0, -2.0), (0.0, -0.205, 0.305)),
]
TILES = {"kind": "tiles", "starts": "nnunet", "step": 0.5}


@pytest.fixture
def volume() -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(0, 100, SHAPE).astype(np.int16)


def infer(member: str, out: str) -> dict[str, Any]:
    return {"do": "infer", "in": "scaled", "members": [member], "tiling": TILES,
            "activation": "none", "out": out}  # fmt: skip


def argmax(of: str, out: str, segments: tuple[int, int] = (1, 2)) -> dict[str, Any]:
    rule = {"kind": "argmax", "segments": list(segments)}
    return {"do": "decide", "in": of, "rule": rule, "out": out}


def found_by(volume: NDArray[np.int16], member: Linear) -> NDArray[np.uint8]:
    """What a member finds, voxel by voxel, on [x, y, z]."""
    scaled = (volume.transpose(2, 1, 0) / np.float32(100)).astype(np.float32)
    scores = [scaled * g + o for g, o in zip(member.gains, member.offsets, strict=True)]
    return np.argmax(scores, axis=0).astype(np.uint8)


def labels(run: Run, name: str) -> NDArray[np.uint8]:
    found = run.segments(name)
    whole = np.zeros(found.grid.shape, np.uint8)
    if found.labels is not None:
        whole[found.box] = found.labels
    return whole


def members_apart(*combine: dict[str, Any]) -> list[dict[str, Any]]:
    plan = [ORIENT, WINDOW]
    for member in MEMBERS:
        plan += [infer(member.name, f"p-{member.name}"), argmax(f"p-{member.name}", member.name)]
    return [*plan, *combine]


def test_the_majority_of_members_is_that_of_their_votes(volume: NDArray[np.int16]) -> None:
    rule = {"kind": "majority", "tie": "lowest"}
    fused = {"do": "combine", "in": "one", "and": ["two", "three"], "rule": rule, "out": "all"}
    run = ran(volume, MEMBERS, *members_apart(fused))
    votes = np.stack([found_by(volume, member) for member in MEMBERS])
    counts = np.stack([(votes == number).sum(axis=0) for number in range(3)])
    np.testing.assert_array_equal(labels(run, "all"), counts.argmax(axis=0))


@pytest.mark.parametrize("wins", ["later", "earlier"])
def test_of_two_parts_the_one_that_wins_has_the_voxel(volume: NDArray[np.int16], wins: str) -> None:
    parts = [ORIENT, WINDOW, infer("one", "p"), argmax("p", "a"), infer("two", "q")]
    parts += [argmax("q", "b", (3, 4))]
    whole = {"do": "combine", "in": "a", "and": ["b"], "rule": {"kind": "parts", "wins": wins},
             "out": "whole"}  # fmt: skip
    run = ran(volume, MEMBERS, *parts, whole)
    one, two = found_by(volume, MEMBERS[0]), found_by(volume, MEMBERS[1])
    other = np.where(two > 0, two + 2, 0)
    expected = np.where(other > 0, other, one) if wins == "later" else np.where(one > 0, one, other)
    np.testing.assert_array_equal(labels(run, "whole"), expected)


def test_members_with_steps_of_their_own_merge_as_those_of_one_step(
    volume: NDArray[np.int16],
) -> None:
    rule = {"kind": "weighted", "weights": [0.5, 0.25, 0.25]}
    apart: list[dict[str, Any]] = [ORIENT, WINDOW]
    apart += [infer(member.name, f"p-{member.name}") for member in MEMBERS]
    others = ["p-two", "p-three"]
    apart += [{"do": "combine", "in": "p-one", "and": others, "rule": rule, "out": "p"}]
    together = {**infer("one", "p"), "members": ["one", "two", "three"], "merge": rule}
    one = ran(volume, MEMBERS, *apart, argmax("p", "found"))
    other = ran(volume, MEMBERS, ORIENT, WINDOW, together, argmax("p", "found"))
    np.testing.assert_array_equal(labels(one, "found"), labels(other, "found"))
    assert set(np.unique(labels(one, "found"))) == {0, 1, 2}


@pytest.mark.parametrize("axes", ["RAS", "SPL", "AIL"])
def test_scores_that_were_only_turned_and_cropped_are_decided_on_the_slices_as_they_are(
    volume: NDArray[np.int16], axes: str
) -> None:
    volume[:, :2] = 0
    crop = {"do": "crop", "in": "head", "around": {"of": "head", "above": 0.0},
            "margin": {"voxels": 0}, "out": "part"}  # fmt: skip
    plan: list[dict[str, Any]] = [{**ORIENT, "axes": axes}, crop, {**WINDOW, "in": "part"}]
    back = {"do": "restore", "in": "p", "to": "image", "out": "back"}
    run = ran(volume, MEMBERS, *plan, infer("one", "p"), back, argmax("back", "found"))
    written = np.zeros(SHAPE, np.uint8)
    run.segments("found").write(written, run.crew)
    expected = found_by(volume, MEMBERS[0]).transpose(2, 1, 0).copy()
    expected[:, :2] = 0
    np.testing.assert_array_equal(written, expected)


def test_segments_of_other_orientations_and_of_restored_scores_meet_on_the_slices(
    volume: NDArray[np.int16],
) -> None:
    """Three members look at the scan from three sides; two vote as segments, one as scores."""
    plan: list[dict[str, Any]] = []
    for member, axes in zip(MEMBERS, ("RAS", "SPL", "AIL"), strict=True):
        name = member.name
        plan.append({**ORIENT, "axes": axes, "out": f"head-{name}"})
        plan.append({**WINDOW, "in": f"head-{name}", "out": f"scaled-{name}"})
        plan.append({**infer(name, f"p-{name}"), "in": f"scaled-{name}"})
    for name in ("one", "two"):
        plan.append(argmax(f"p-{name}", f"near-{name}"))
        plan.append({"do": "restore", "in": f"near-{name}", "to": "image", "out": name})
    plan.append({"do": "restore", "in": "p-three", "to": "image", "out": "back-three"})
    plan.append(argmax("back-three", "three"))
    rule = {"kind": "majority", "tie": "lowest"}
    fused = {"do": "combine", "in": "one", "and": ["two", "three"], "rule": rule, "out": "all"}
    run = ran(volume, MEMBERS, *plan, fused)
    written = np.zeros(SHAPE, np.uint8)
    run.segments("all").write(written, run.crew)
    votes = np.stack([found_by(volume, member).transpose(2, 1, 0) for member in MEMBERS])
    counts = np.stack([(votes == number).sum(axis=0) for number in range(3)])
    np.testing.assert_array_equal(written, counts.argmax(axis=0))


def test_scores_that_were_restored_are_not_combined(volume: NDArray[np.int16]) -> None:
    plan = [ORIENT, WINDOW]
    for name in ("one", "two"):
        plan.append(infer(name, f"p-{name}"))
        plan.append({"do": "restore", "in": f"p-{name}", "to": "image", "out": f"back-{name}"})
    rule = {"kind": "mean"}
    merge = {"do": "combine", "in": "back-one", "and": ["back-two"], "rule": rule, "out": "p"}
    with pytest.raises(PlanError, match="made where they are decided"):
        ran(volume, MEMBERS, *plan, merge)


WRONG: list[tuple[dict[str, Any], tuple[str | int, ...], str]] = [
    (
        {"do": "combine", "in": "one", "and": ["two"], "rule": {"kind": "parts", "wins": "later"}},
        ("and", 0),
        "numbers of their own",
    ),
    (
        {"do": "combine", "in": "one", "and": ["p-extra"], "rule": {"kind": "staple"}},
        ("and",),
        "Name another value",
    ),
    (
        {"do": "combine", "in": "one", "and": ["two"],
         "rule": {"kind": "simple", "regions": [[1, 7]]}},
        ("rule", "regions", 0),
        "They find 1, 2",
    ),
    (
        {"do": "combine", "in": "p-extra", "and": ["p-more"],
         "rule": {"kind": "mean", "of": "logits"}},
        ("rule", "of"),
        "probabilities",
    ),
    (
        {"do": "combine", "in": "p-extra", "and": ["p-more"],
         "rule": {"kind": "weighted", "weights": [1.0, 1.0, 1.0]}},
        ("rule", "weights"),
        "one weight a member",
    ),
    (
        {"do": "combine", "in": "p-extra", "and": ["p-more"],
         "rule": {"kind": "weighted", "weights": [0.0, 0.0]}},
        ("rule", "weights"),
        "Give it one",
    ),
    (
        {"do": "combine", "in": "p-extra", "and": ["p-more"],
         "rule": {"kind": "confidence", "by": "region"}},
        ("rule",),
        "after a sigmoid",
    ),
    ({"do": "restore", "in": "one", "to": "image", "across": "nearest"}, ("across",), "Leave"),
]  # fmt: skip


@pytest.mark.parametrize(("step", "path", "remedy"), WRONG, ids=[str(one[1]) for one in WRONG])
def test_what_cannot_be_combined_is_refused_with_field_and_remedy(
    step: dict[str, Any], path: tuple[str | int, ...], remedy: str
) -> None:
    more = [infer("one", "p-extra"), infer("two", "p-more")]
    plan = steps(*members_apart(*more, {**step, "out": "x"}))
    made = tuple(each.out for each in plan)
    with pytest.raises(PlanError) as caught:
        check_plan(plan, ("image",), made, {one.name: one.facts for one in MEMBERS})
    assert caught.value.path == (len(plan) - 1, *path)
    assert remedy in caught.value.remedy

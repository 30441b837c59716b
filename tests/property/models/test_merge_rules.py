"""Every rule equals its formula on small volumes, voxel by voxel, and slab by slab the whole."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any, Literal

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.grid import Grid
from models.runtime.merging.activation import sigmoid, softmax
from models.runtime.merging.confidence_weighted import Confidence, confidence_weighted
from models.runtime.merging.decision import decide_slabs
from models.runtime.merging.entropy_weighted import entropy_weighted
from models.runtime.merging.in_step import combined
from models.runtime.merging.majority import Tie, majority
from models.runtime.merging.mean_of_probabilities import mean_of_probabilities
from models.runtime.merging.parts import Wins, add_part
from models.runtime.merging.regions import regions_to_labels, thresholded
from models.runtime.merging.simple import simple, simple_regions
from models.runtime.merging.staple import staple, staple_labels
from models.runtime.merging.uncertainty import (
    disagreement,
    entropy,
    mutual_information,
    pair_disagreement,
    region_entropy,
    volume_interval,
)
from models.runtime.merging.weighted import weighted
from models.runtime.scores import Scores, Slab

CREW = Crew(2)
SHAPE = (3, 4, 5)
SEEDS = st.integers(0, 2**32 - 1)
MEMBERS = st.integers(1, 5)
CLASSES = st.integers(2, 6)


def logits(seed: int, members: int, classes: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [
        (random.standard_normal((classes, *SHAPE)) * 4).astype(np.float32) for _ in range(members)
    ]


def probabilities(seed: int, members: int, classes: int) -> list[np.ndarray]:
    return [softmax(each) for each in logits(seed, members, classes)]


def labels(seed: int, members: int, classes: int, shape: tuple[int, ...] = SHAPE) -> list[Any]:
    """Members that mostly agree."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, shape)
    return [
        np.where(random.random(shape) < 0.7, truth, random.integers(0, classes, shape)).astype(
            np.uint8
        )
        for _ in range(members)
    ]


@given(SEEDS, MEMBERS, CLASSES)
def test_means_are_means(seed: int, members: int, classes: int) -> None:
    chances = probabilities(seed, members, classes)
    before = [one.copy() for one in chances]
    np.testing.assert_allclose(
        mean_of_probabilities(chances), np.mean(chances, axis=0), rtol=1e-4, atol=1e-6
    )
    assert all((one == other).all() for one, other in zip(chances, before, strict=True))


@given(SEEDS, MEMBERS, CLASSES, st.booleans())
def test_weights_are_of_members_or_of_members_and_classes(
    seed: int, members: int, classes: int, by_class: bool
) -> None:
    each = probabilities(seed, members, classes)
    weights = np.random.default_rng(seed).random((members, classes) if by_class else members) + 0.1
    full = np.broadcast_to(weights if by_class else weights[:, None], (members, classes))
    expected = np.einsum("mc,mcxyz->cxyz", full / full.sum(axis=0), np.stack(each))
    np.testing.assert_allclose(weighted(each, weights), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -0.5], [[1.0], [1.0]]])
def test_weights_that_do_not_fit_are_refused(weights: list[Any]) -> None:
    with pytest.raises(RequestError):
        weighted(probabilities(1, 2, 3), np.array(weights))


@given(
    SEEDS,
    MEMBERS,
    CLASSES,
    st.sampled_from(["largest", "margin", "region"]),
    st.sampled_from([0.5, 1.0, 2.0]),
)
def test_the_surer_member_counts_more(
    seed: int, members: int, classes: int, confidence: Confidence, power: float
) -> None:
    each = probabilities(seed, members, classes)
    found = confidence_weighted(each, confidence, power)
    for voxel in np.ndindex(SHAPE):
        at = np.array([one[(slice(None), *voxel)] for one in each], np.float64)
        ordered = np.sort(at, axis=1)
        sure = {
            "largest": ordered[:, -1:],
            "margin": ordered[:, -1:] - ordered[:, -2:-1],
            "region": np.abs(2 * at - 1),
        }[confidence] ** power
        expected = (at * sure).sum(axis=0) / np.broadcast_to(sure, at.shape).sum(axis=0)
        np.testing.assert_allclose(found[(slice(None), *voxel)], expected, rtol=1e-3, atol=1e-5)


@given(
    SEEDS,
    MEMBERS,
    CLASSES,
    st.sampled_from(["linear", "exponential"]),
    st.sampled_from(["classes", "regions"]),
)
def test_the_less_undecided_member_counts_more(
    seed: int,
    members: int,
    classes: int,
    weight: Literal["linear", "exponential"],
    of: Literal["classes", "regions"],
) -> None:
    each = probabilities(seed, members, classes)
    # float32 may have rounded a probability to one.
    at = np.clip(np.stack(each).astype(np.float64), 1e-12, 1 - 1e-12)
    if of == "classes":
        unsure = -(at * np.log(at)).sum(axis=1, keepdims=True)
    else:
        unsure = -(at * np.log(at) + (1 - at) * np.log1p(-at))
    greatest = math.log(classes if of == "classes" else 2)
    weights = np.exp(-unsure) if weight == "exponential" else 1 - unsure / greatest
    expected = (at * weights).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(entropy_weighted(each, weight, of), expected, rtol=5e-3, atol=1e-4)


def test_where_no_member_is_sure_of_anything_the_mean_is_plain() -> None:
    undecided = [np.full((2, *SHAPE), 0.5, np.float32)] * 3
    for found in (
        confidence_weighted(undecided, "margin"),
        confidence_weighted(undecided, "region"),
        entropy_weighted(undecided, "linear", "regions"),
    ):
        np.testing.assert_array_equal(found, undecided[0])


@given(SEEDS, MEMBERS, CLASSES)
def test_tensors_and_slabs_give_the_same_as_whole_arrays(
    seed: int, members: int, classes: int
) -> None:
    each = probabilities(seed, members, classes)
    tensors = [torch.from_numpy(one) for one in each]
    grid = Grid(SHAPE, np.eye(4))
    rules: list[Any] = [
        mean_of_probabilities,
        confidence_weighted,
        lambda all_of_them: confidence_weighted(all_of_them, "region"),
        entropy_weighted,
        lambda all_of_them: mutual_information(all_of_them)[None],
    ]
    for rule in rules:
        whole = rule(each)
        np.testing.assert_allclose(rule(tensors).numpy(), whole, rtol=1e-4, atol=1e-6)
        slabs = [
            Scores(
                iter([Slab(1, 0, 1, one[:, :, :1]), Slab(1, 1, 4, one[:, :, 1:])]), grid, classes
            )
            for one in each
        ]
        parts = [slab.scores for slab in combined(slabs, rule).slabs]
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole)


@given(SEEDS, CLASSES)
def test_activations_are_those_of_torch(seed: int, classes: int) -> None:
    (each,) = logits(seed, 1, classes)
    each *= 30
    tensor = torch.from_numpy(each)
    np.testing.assert_allclose(softmax(each), torch.softmax(tensor, 0).numpy(), atol=1e-6)
    np.testing.assert_allclose(sigmoid(each), torch.sigmoid(tensor).numpy(), atol=1e-6)
    np.testing.assert_allclose(sigmoid(tensor).numpy(), sigmoid(each), atol=1e-6)


@given(SEEDS, MEMBERS, CLASSES, st.sampled_from(["background", "lowest", "first-member"]))
def test_the_commonest_label_wins(seed: int, members: int, classes: int, tie: Tie) -> None:
    each = labels(seed, members, classes)
    found = majority(each, tie)
    assert found.dtype == np.uint8
    for voxel in np.ndindex(SHAPE):
        at = [int(one[voxel]) for one in each]
        votes = Counter(at)
        top = [label for label, count in votes.items() if count == max(votes.values())]
        if len(top) == 1:
            expected = top[0]
        elif tie == "background":
            expected = 0
        elif tie == "lowest":
            expected = min(top)
        else:
            expected = next(label for label in at if label in top)
        assert found[voxel] == expected


@given(SEEDS, st.integers(1, 6), st.floats(0.02, 0.9))
def test_staple_is_itks(seed: int, members: int, share: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((8, 9, 10)) < share
    truth[0, 0, 0] = True
    masks = [(truth ^ (random.random(truth.shape) < 0.15)).astype(np.uint8) for _ in range(members)]
    if not any(mask.any() for mask in masks):
        return
    images = [SimpleITK.GetImageFromArray(mask) for mask in masks]
    oracle = SimpleITK.STAPLEImageFilter()
    oracle.SetForegroundValue(1)
    # Without a bound its rounds may go on for ever between two roundings.
    oracle.SetMaximumIterations(500)
    expected = SimpleITK.GetArrayFromImage(oracle.Execute(images))
    found = staple(masks)
    np.testing.assert_allclose(found.probability, expected, atol=1e-4)
    np.testing.assert_allclose(found.sensitivity, oracle.GetSensitivity(), atol=1e-4)
    np.testing.assert_allclose(found.specificity, oracle.GetSpecificity(), atol=1e-4)


def test_staple_of_nothing_is_nothing_and_of_all_is_all() -> None:
    empty = [np.zeros(SHAPE, np.uint8)] * 3
    assert not staple(empty).probability.any()
    assert (staple([one + 1 for one in empty]).probability == 1).all()
    with pytest.raises(RequestError):
        staple(empty * 6)


@given(SEEDS, st.integers(1, 5), CLASSES)
def test_staple_of_labels_takes_the_most_probable_one(
    seed: int, members: int, classes: int
) -> None:
    each = labels(seed, members, classes, (6, 7, 8))
    one_by_one = np.stack(
        [np.full((6, 7, 8), 0.5, np.float32)]
        + [staple([one == label for one in each]).probability for label in range(1, classes)]
    )
    # One half is enough, so background stands just below it.
    one_by_one[0] = np.nextafter(np.float32(0.5), np.float32(0))
    np.testing.assert_array_equal(staple_labels(each), one_by_one.argmax(axis=0))


def toolkits(masks: list[np.ndarray], drop_below: float) -> np.ndarray:
    """SIMPLE on whole volumes, as the BraTS Toolkit's fusionator runs it."""

    def vote(weights: np.ndarray) -> np.ndarray:
        total = sum(weight * mask for weight, mask in zip(weights, masks, strict=True))
        return (total >= weights.sum() / 2) & np.any(masks, axis=0)

    fused = vote(np.ones(len(masks)))
    voxels = fused.sum()
    for _ in range(25):
        dices = [
            2 * (mask * fused).sum() / (mask.sum() + fused.sum())
            if mask.sum() + fused.sum() > 0
            else 0.0
            for mask in masks
        ]
        weights = (np.array(dices) + 1) ** 2
        weights[weights <= drop_below * weights.max()] = 0
        fused = vote(weights)
        if abs(int(fused.sum()) - int(voxels)) < 25:
            break
        voxels = fused.sum()
    return fused


@given(SEEDS, st.integers(1, 6), st.sampled_from([0.05, 0.6, 0.9]))
def test_simple_is_the_weighted_vote_repeated(seed: int, members: int, drop_below: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.random((12, 13, 14)) < 0.4
    masks = [truth ^ (random.random(truth.shape) < random.random()) for _ in range(members)]
    np.testing.assert_array_equal(simple(masks, drop_below), toolkits(masks, drop_below))


def test_simple_writes_inner_regions_over_outer_ones() -> None:
    outer = np.array([[1, 1, 2, 4, 0]], np.uint8)
    fused = simple_regions([outer, outer], [(2, (1, 2, 4)), (1, (1, 4)), (4, (4,))])
    assert fused.tolist() == [[1, 1, 2, 4, 0]]


@given(SEEDS, st.integers(1, 4))
def test_nested_regions_are_decided_as_nnunet_does(seed: int, regions: int) -> None:
    chances = np.random.default_rng(seed).random((regions, *SHAPE), np.float32)
    thresholds = np.random.default_rng(seed + 1).random(regions).tolist()
    order = [int(label) for label in np.random.default_rng(seed).permutation(regions) + 1]
    expected = np.zeros(SHAPE, np.uint8)
    for place, label in enumerate(order):
        expected[chances[place] > np.float32(thresholds[place])] = label
    found = regions_to_labels(thresholded(chances, thresholds), order)
    np.testing.assert_array_equal(found, expected)
    tensor = regions_to_labels(thresholded(torch.from_numpy(chances), thresholds), order)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    slabs = iter([Slab(2, 0, 2, chances[..., :2]), Slab(2, 2, 5, chances[..., 2:])])
    scores = Scores(slabs, Grid(SHAPE, np.eye(4)), regions)
    np.testing.assert_array_equal(
        decide_slabs(scores, lambda slab: regions_to_labels(thresholded(slab, thresholds), order)),
        expected,
    )
    with pytest.raises(RequestError):
        thresholded(chances, [*thresholds, 0.5])


@given(SEEDS, st.sampled_from(["later", "earlier"]))
def test_parts_get_their_numbers_and_one_of_them_wins(seed: int, wins: Wins) -> None:
    parts = labels(seed, 3, 4)
    numbers = [
        np.array([0, 1, 2, 3], np.uint8),
        np.array([0, 4, 0, 5], np.uint8),
        np.array([0, 6, 7, 255], np.uint8),
    ]
    whole, tensor = np.zeros(SHAPE, np.uint8), torch.zeros(SHAPE, dtype=torch.uint8)
    expected = np.zeros(SHAPE, np.uint8)
    for part, number in zip(parts, numbers, strict=True):
        add_part(whole, part, number, wins, CREW)
        add_part(tensor, torch.from_numpy(part), number, wins, CREW)
        for voxel in np.ndindex(SHAPE):
            label = number[part[voxel]]
            if label and (wins == "later" or not expected[voxel]):
                expected[voxel] = label
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(tensor.numpy(), expected)


@given(SEEDS, MEMBERS, CLASSES)
def test_what_is_unsure_follows_its_definition(seed: int, members: int, classes: int) -> None:
    each = np.stack(probabilities(seed, members, classes)).astype(np.float64)
    each[:, 0][each[:, 0] < 0.2] = 0.0

    def plogp(chances: np.ndarray) -> np.ndarray:
        return np.where(chances > 0, chances * np.log(np.where(chances > 0, chances, 1)), 0)

    mean = each.mean(axis=0)
    of_mean = -plogp(mean).sum(axis=0)
    expected = -plogp(each).sum(axis=1).mean(axis=0)
    np.testing.assert_allclose(entropy(mean), of_mean, atol=1e-9)
    np.testing.assert_allclose(
        mutual_information(list(each)), np.maximum(of_mean - expected, 0), atol=1e-9
    )
    assert (mutual_information(list(each.astype(np.float32))) >= 0).all()
    np.testing.assert_allclose(region_entropy(mean), -(plogp(mean) + plogp(1 - mean)), atol=1e-9)
    votes = labels(seed, members, classes)
    found = disagreement(votes)
    for voxel in np.ndindex(SHAPE):
        top = max(Counter(int(one[voxel]) for one in votes).values())
        assert found[voxel] == pytest.approx(1 - top / members, abs=1e-6)


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=15), st.floats(1e-4, 1.0))
def test_a_volumes_interval_holds_its_members(voxels: list[int], voxel_ml: float) -> None:
    volumes = np.array(voxels) * voxel_ml
    low, high = volume_interval(volumes, 0.025, 0.975)
    assert volume_interval(volumes, 0.0, 1.0) == (volumes.min(), volumes.max())
    slack = 1e-9 * (1 + volumes.max())
    assert volumes.min() - slack <= low <= np.median(volumes) + slack
    assert np.median(volumes) - slack <= high <= volumes.max() + slack
    ordered = np.sort(volumes)
    place = 0.025 * (len(volumes) - 1)
    below = int(place)
    above = min(below + 1, len(volumes) - 1)
    line = ordered[below] + (place - below) * (ordered[above] - ordered[below])
    assert low == pytest.approx(line)


@given(SEEDS, st.integers(2, 5), CLASSES)
def test_disagreement_is_one_less_the_mean_dice_of_all_pairs(
    seed: int, members: int, classes: int
) -> None:
    votes = labels(seed, members, classes)
    found = pair_disagreement(votes)
    for number in range(1, classes + 1):
        dice: list[float] = []
        for one, other in itertools.combinations([each == number for each in votes], 2):
            both = one.sum() + other.sum()
            dice.append(2 * (one & other).sum() / both if both else 1.0)
        assert found[number] == pytest.approx(1 - np.mean(dice))

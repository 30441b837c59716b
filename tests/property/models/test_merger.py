"""The merger gives the weighted mean of all tiles, whatever it holds at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers.utils import sliding_window_inference

from models.runtime.crew import Crew
from models.runtime.errors import PipelineError, RequestError
from models.runtime.grid import Grid
from models.runtime.merging.decision import Best, decide_slabs, largest
from models.runtime.merging.in_step import combined, in_step
from models.runtime.merging.mean_of_probabilities import mean_of_probabilities
from models.runtime.merging.merger import Merger, bytes_needed, class_groups
from models.runtime.scores import Scores, Slab
from models.runtime.tile_weights import Weight, tile_weights
from models.runtime.tiling import Rule, Tiling, read_patch, tile

CREW = Crew(2)
CLASSES = 4
PLENTY = 1 << 40
SHAPES = st.tuples(*[st.integers(1, 24)] * 3)
PATCHES = st.tuples(*[st.integers(2, 9)] * 3)
RULES: tuple[Rule, ...] = ("nnunet", "monai", "blast")
WEIGHTS: tuple[Weight, ...] = ("constant", "gaussian-nnunet", "gaussian-monai")
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def tilings(draw: st.DrawFn) -> Tiling:
    rule = draw(st.sampled_from(RULES))
    step = 1.0 if rule == "blast" else draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))
    return tile(draw(SHAPES), draw(PATCHES), step, rule)


def scores_of(tiling: Tiling, seed: int) -> dict[tuple[int, int, int], np.ndarray]:
    random = np.random.default_rng(seed)
    return {start: random.standard_normal((CLASSES, *tiling.size), np.float32) for start in tiling}


def straight(
    tiling: Tiling, tiles: dict[tuple[int, int, int], np.ndarray], weights: np.ndarray
) -> np.ndarray:
    """All tiles on one float64 volume."""
    total = np.zeros((CLASSES, *tiling.padded))
    weight = np.zeros(tiling.padded)
    for start in tiling:
        part = tuple(slice(at, at + size) for at, size in zip(start, tiling.size, strict=True))
        total[(slice(None), *part)] += tiles[start] * weights.astype(np.float64)
        weight[part] += weights
    inside = tuple(
        slice(at, at + side) for at, side in zip(tiling.before, tiling.shape, strict=True)
    )
    return (total / weight)[(slice(None), *inside)]


def slabs_of(
    merger: Merger, tiling: Tiling, tiles: dict[tuple[int, int, int], np.ndarray]
) -> Iterator[Slab]:
    for start in tiling:
        merger.add(start, tiles[start])
        yield from merger.slabs()


def whole(slabs: Iterator[Slab]) -> np.ndarray:
    """Slabs in order, without gaps, as one array."""
    every = list(slabs)
    assert every[0].first == 0
    assert all(one.end == other.first for one, other in itertools.pairwise(every))
    return np.concatenate([slab.scores for slab in every], axis=every[0].axis + 1)


@given(tilings(), st.sampled_from(WEIGHTS), SEEDS)
def test_slabs_are_the_weighted_mean_of_the_tiles(
    tiling: Tiling, weight: Weight, seed: int
) -> None:
    weights = tile_weights(tiling.size, weight)
    tiles = scores_of(tiling, seed)
    merger = Merger(tiling, range(CLASSES), weights, PLENTY, CREW)
    found = whole(slabs_of(merger, tiling, tiles))
    np.testing.assert_allclose(found, straight(tiling, tiles, weights), rtol=1e-4, atol=1e-4)


@given(tilings(), SEEDS)
def test_torch_tensors_merge_to_the_same(tiling: Tiling, seed: int) -> None:
    weights = tile_weights(tiling.size, "gaussian-nnunet")
    tiles = scores_of(tiling, seed)
    tensor = torch.from_numpy(weights.copy())
    merger = Merger(tiling, range(CLASSES), tensor, PLENTY, CREW)
    slabs: list[np.ndarray] = []
    for start in tiling:
        merger.add(start, torch.from_numpy(tiles[start]))
        slabs += [slab.scores.numpy() for slab in merger.slabs()]
    found = np.concatenate(slabs, axis=tiling.long_axis + 1)
    np.testing.assert_allclose(found, straight(tiling, tiles, weights), rtol=1e-4, atol=1e-4)


@given(tilings(), SEEDS)
def test_passes_of_a_tile_are_averaged(tiling: Tiling, seed: int) -> None:
    weights = tile_weights(tiling.size, "gaussian-monai")
    passes = [scores_of(tiling, seed + place) for place in range(3)]
    merger = Merger(tiling, range(CLASSES), weights, PLENTY, CREW, passes=3)
    slabs: list[Slab] = []
    for start in tiling:
        for tiles in passes:
            merger.add(start, tiles[start])
            slabs += merger.slabs()
    expected = np.mean([straight(tiling, tiles, weights) for tiles in passes], axis=0)
    np.testing.assert_allclose(whole(iter(slabs)), expected, rtol=1e-4, atol=1e-4)


@given(st.permutations(range(3)), SEEDS)
@settings(max_examples=6)
def test_only_planes_that_no_later_tile_touches_are_held_back(order: list[int], seed: int) -> None:
    """Slabs come row by row, and what is held does not grow with the long axis."""
    shape = [14, 13, 60]
    first, second, third = (shape[axis] for axis in order)
    tiling = tile((first, second, third), (8, 8, 8), 0.5, "nnunet")
    along = tiling.long_axis
    merger = Merger(tiling, range(CLASSES), tile_weights((8, 8, 8), "constant"), PLENTY, CREW)
    tiles = scores_of(tiling, seed)
    given_away = 0
    starts = list(tiling)
    for place, start in enumerate(starts):
        merger.add(start, tiles[start])
        given_away = max([given_away, *(slab.end for slab in merger.slabs())])
        following = starts[place + 1][along] if place + 1 < len(starts) else 60
        assert given_away == following
    shape = list(tiling.shape)
    shape[along] *= 10
    longer = tile((shape[0], shape[1], shape[2]), (8, 8, 8), 0.5, "nnunet")
    assert bytes_needed(longer, CLASSES) == bytes_needed(tiling, CLASSES)


@given(tilings(), SEEDS)
def test_class_groups_decide_the_labels_of_the_whole(tiling: Tiling, seed: int) -> None:
    weights = tile_weights(tiling.size, "gaussian-nnunet")
    tiles = scores_of(tiling, seed)
    budget = bytes_needed(tiling, 2)
    with pytest.raises(RequestError, match="class groups"):
        Merger(tiling, range(2000), weights, budget, CREW)
    best = Best(tiling.shape, CLASSES, CREW)
    for group in (range(2), range(2, 4)):
        merger = Merger(tiling, group, weights, budget, CREW)
        for slab in slabs_of(merger, tiling, tiles):
            best.take(slab, group.start)
    merger = Merger(tiling, range(CLASSES), weights, PLENTY, CREW)
    together = Scores(slabs_of(merger, tiling, tiles), Grid(tiling.shape, np.eye(4)), CLASSES)
    np.testing.assert_array_equal(
        best.labels, decide_slabs(together, lambda slab: largest(slab, CREW))
    )


def test_groups_are_the_fewest_that_fit() -> None:
    tiling = tile((300, 300, 500), (128, 128, 128), 0.8, "nnunet")
    assert class_groups(tiling, 118, 6 << 30) == [range(118)]
    groups = class_groups(tiling, 118, 3 << 30)
    assert [each for group in groups for each in group] == list(range(118))
    assert len(groups) == 2
    assert all(bytes_needed(tiling, len(group)) <= 3 << 30 for group in groups)
    with pytest.raises(RequestError, match="one class"):
        class_groups(tiling, 118, 1 << 20)


def test_tiles_out_of_order_and_slabs_left_lying_are_faults() -> None:
    tiling = tile((8, 8, 30), (8, 8, 8), 0.5, "nnunet")
    merger = Merger(tiling, range(1), tile_weights((8, 8, 8), "constant"), PLENTY, CREW)
    scores = np.zeros((1, 8, 8, 8), np.float32)
    with pytest.raises(PipelineError, match="out of its row"):
        merger.add((0, 0, 4), scores)
    merger.add((0, 0, 0), scores)
    with pytest.raises(PipelineError, match="wait"):
        merger.add((0, 0, tiling.starts[2][1]), scores)
    for start in list(tiling)[1:]:
        list(merger.slabs())
        merger.add(start, scores)
    assert [slab.end for slab in merger.slabs()][-1] == 30
    with pytest.raises(PipelineError, match="out of its row"):
        merger.add((0, 0, 0), scores)


def cut(volume: np.ndarray, ends: list[int], axis: int) -> Iterator[Slab]:
    first = 0
    for end in ends:
        part = (slice(None),) * (axis + 1) + (slice(first, end),)
        yield Slab(axis, first, end, volume[part])
        first = end


@given(st.integers(0, 2), st.data(), SEEDS)
def test_members_that_finish_at_other_planes_go_in_step(
    axis: int, data: st.DataObject, seed: int
) -> None:
    grid = Grid((7, 8, 9), np.eye(4))
    random = np.random.default_rng(seed)
    members = [random.standard_normal((2, 7, 8, 9), np.float32) for _ in range(3)]
    ends = [sorted({*data.draw(st.lists(st.integers(1, 6))), grid.shape[axis]}) for _ in members]
    scores = [
        Scores(cut(member, each, axis), grid, 2) for member, each in zip(members, ends, strict=True)
    ]
    merged = combined(scores, mean_of_probabilities)
    np.testing.assert_allclose(whole(iter(merged.slabs)), np.mean(members, axis=0), atol=1e-6)


def test_members_of_other_grids_axes_or_lengths_are_refused() -> None:
    grid, volume = Grid((4, 4, 4), np.eye(4)), np.zeros((1, 4, 4, 4), np.float32)
    one = lambda: Scores(cut(volume, [2, 4], 0), grid, 1)  # noqa: E731
    for other in (
        Scores(cut(volume, [4], 0), Grid((4, 4, 4), 2 * np.eye(4)), 1),
        Scores(cut(volume, [4], 1), grid, 1),
        Scores(cut(volume, [2], 0), grid, 1),
    ):
        with pytest.raises(RequestError):
            list(in_step([one(), other]))


@given(st.integers(1, 300), SEEDS)
@settings(max_examples=20)
def test_the_largest_score_decides_and_the_lowest_class_of_equal_ones(
    classes: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(0, 5, (classes, 4, 5, 6)).astype(np.float32)
    found = largest(scores, CREW)
    np.testing.assert_array_equal(found, scores.argmax(axis=0))
    assert found.dtype == (np.uint8 if classes <= 256 else np.uint16)
    np.testing.assert_array_equal(largest(torch.from_numpy(scores), CREW).numpy(), found)


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("shape", [(9, 30, 21), (40, 12, 17)])
def test_the_way_through_a_network_is_monais(mode: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(3)
    network = torch.nn.Conv3d(1, CLASSES, 3, padding=1)
    volume = torch.randn(1, *shape)
    with torch.no_grad():
        expected = sliding_window_inference(
            volume[None], (12, 12, 12), 2, network, overlap=0.375, mode=mode
        )
        tiling = tile(shape, (12, 12, 12), 1 - 0.375, "monai")
        weight: Weight = "constant" if mode == "constant" else "gaussian-monai"
        weights = tile_weights(tiling.size, weight)
        merger = Merger(tiling, range(CLASSES), weights, PLENTY, CREW)
        tiles = {
            start: network(read_patch(volume, tiling, start, 0.0)[None])[0].numpy()
            for start in tiling
        }
    assert isinstance(expected, torch.Tensor)
    found = whole(slabs_of(merger, tiling, tiles))
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-4, atol=1e-5)

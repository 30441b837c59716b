"""What was found on a working grid comes back to the source's slices, where it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.grid import Box, Grid
from models.runtime.merging.regions import regions_to_labels, thresholded
from models.runtime.restoring import restore_classes, restore_scores
from models.runtime.sampling import Centres
from models.runtime.scores import Scores, Slab
from models.runtime.separable import Kinds, nearest_onto, resample_onto

CREW = Crew(2)
LETTERS = [
    "".join(letters)
    for ends in itertools.product("RL", "AP", "SI")
    for letters in itertools.permutations(ends)
]
CENTRES: tuple[Centres, ...] = ("half-pixel", "aligned", "spacing")
SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def sources(draw: st.DrawFn) -> Grid:
    """Oblique, flipped, anisotropic grids, axes in any order."""
    random = np.random.default_rng(draw(SEEDS))
    rotation, _ = np.linalg.qr(random.standard_normal((3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * random.uniform(0.6, 4.0, 3)
    affine[:3, 3] = random.uniform(-300, 300, 3)
    first, second, third = (int(side) for side in random.integers(8, 26, 3))
    return Grid((first, second, third), affine)


def positions(grid: Grid) -> np.ndarray:
    """LPS of every voxel [a0, a1, a2, 3]."""
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return grid.positions_lps(indices.astype(np.float64))


def depth_mm(grid: Grid, centre: np.ndarray, radius: float) -> np.ndarray:
    """How deep each voxel lies inside a ball, [a0, a1, a2]; negative outside."""
    return radius - np.linalg.norm(positions(grid) - centre, axis=-1)


def ball_in(grid: Grid, random: np.random.Generator) -> tuple[np.ndarray, float]:
    """A ball about some place of the grid; it may leave the grid."""
    sides = np.array(grid.shape) - 1.0
    centre = grid.positions_lps(random.uniform(0.2, 0.8, 3) * sides)
    return centre, float(random.uniform(0.2, 0.6) * (sides * grid.spacing_mm).min())


def reach_mm(*grids: Grid) -> float:
    """How far the nearest voxel may lie: half a voxel along each axis, of the coarsest grid."""
    return max(float(np.linalg.norm(grid.spacing_mm)) / 2 for grid in grids) + 1e-6


def cut_box(grid: Grid, random: np.random.Generator) -> Box:
    starts = [int(random.integers(0, side // 3)) for side in grid.shape]
    ends = [int(random.integers(2 * side // 3, side)) + 1 for side in grid.shape]
    first, second, third = (slice(*pair) for pair in zip(starts, ends, strict=True))
    return first, second, third


@given(
    sources(),
    st.sampled_from(LETTERS),
    st.sampled_from(CENTRES),
    st.tuples(*[st.sampled_from([0.3, 0.5, 1.0, 2.0, 3.0, 5.0])] * 3),
    SEEDS,
)
def test_nothing_is_found_outside_what_was_cut_out(
    source: Grid, axes: str, centres: Centres, times: tuple[float, float, float], seed: int
) -> None:
    """However coarse the working grid: by labels, by scores, and by values."""
    turned = source.turned(source.turn_to(axes))
    box = cut_box(turned, np.random.default_rng(seed))
    near = turned.cropped(box)
    first, second, third = (own * by for own, by in zip(near.spacing_mm, times, strict=True))
    work = near.resampled(centres, spacing_mm=(first, second, third))
    kept = np.zeros(turned.shape, bool)
    kept[box] = True
    inside = source.turn_to(axes).back.apply(kept)
    scores = np.zeros((2, *work.shape), np.float32)
    scores[1] = 1.0
    found = [
        nearest_onto(np.ones(work.shape, np.uint8), work, source, CREW),
        restore_classes(Scores(iter([Slab(0, 0, work.shape[0], scores)]), work, 2), source, CREW),
        restore_scores(
            Scores(iter([Slab(0, 0, work.shape[0], scores)]), work, 2),
            source,
            lambda block: (block[1] > 0.5).astype(np.uint8),
            2,
            CREW,
        ),
        resample_onto(scores[1], work, source, ("linear", "linear", "linear"), CREW, 0.0),
    ]
    for each in found:
        assert not each[~inside].any()
        if centres != "spacing":  # else the working grid may end before what was cut out does
            assert each[inside].all()


@given(
    sources(),
    st.sampled_from(LETTERS),
    st.sampled_from(CENTRES),
    st.tuples(*[st.floats(0.6, 4.0)] * 3),
    st.booleans(),
    SEEDS,
)
def test_a_shape_in_the_patient_comes_back_where_it_was(
    source: Grid,
    axes: str,
    centres: Centres,
    spacing: tuple[float, float, float],
    cropped: bool,
    seed: int,
) -> None:
    """Drawn by coordinates on the working grid, read by coordinates on the source's."""
    random = np.random.default_rng(seed)
    turned = source.turned(source.turn_to(axes))
    box = cut_box(turned, random)
    near = turned.cropped(box) if cropped else turned
    work = near.resampled(centres, spacing_mm=spacing)
    centre, radius = ball_in(source, random)
    drawn = (depth_mm(work, centre, radius) > 0).astype(np.uint8)
    back = nearest_onto(drawn, work, source, CREW)
    depth = depth_mm(source, centre, radius)
    inside = np.ones(source.shape, bool)
    if cropped:
        kept = np.zeros(turned.shape, bool)
        kept[box] = True
        inside = source.turn_to(axes).back.apply(kept)
    sure = (np.abs(depth) > reach_mm(work)) & inside
    if centres == "spacing":
        # The working grid may end up to a voxel before or behind the volume.
        sure &= nearest_onto(drawn | 1, work, source, CREW) == 1
    np.testing.assert_array_equal(back[sure], (depth > 0)[sure])
    assert not back[~inside].any()


@given(
    sources(),
    st.sampled_from(LETTERS),
    st.sampled_from(CENTRES),
    st.tuples(*[st.floats(0.6, 4.0)] * 3),
    SEEDS,
)
def test_an_image_goes_there_and_labels_of_it_come_back(
    source: Grid, axes: str, centres: Centres, spacing: tuple[float, float, float], seed: int
) -> None:
    """The whole way: draw on the source, orient, resample, decide, restore."""
    centre, radius = ball_in(source, np.random.default_rng(seed))
    depth = depth_mm(source, centre, radius)
    turn = source.turn_to(axes)
    turned = source.turned(turn)
    work = turned.resampled(centres, spacing_mm=spacing)
    linear: Kinds = ("linear", "linear", "linear")
    seen = resample_onto(
        turn.apply(depth.astype(np.float32)), turned, work, linear, CREW, outside=-1e3
    )
    back = nearest_onto((seen > 0).astype(np.uint8), work, source, CREW)
    # A depth changes by at most the distance, so half a voxel of either grid bounds the error.
    sure = np.abs(depth) > reach_mm(work) + reach_mm(source)
    reached = nearest_onto(np.ones(work.shape, np.uint8), work, source, CREW) == 1
    np.testing.assert_array_equal(back[sure & reached], (depth > 0)[sure & reached])


@given(sources(), st.sampled_from(LETTERS), SEEDS)
def test_without_resampling_labels_come_back_voxel_for_voxel(
    source: Grid, axes: str, seed: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 255, source.shape).astype(np.uint8)
    turn = source.turn_to(axes)
    turned = source.turned(turn)
    back = nearest_onto(turn.apply(labels), turned, source, CREW)
    np.testing.assert_array_equal(back, labels)
    tensor = nearest_onto(turn.apply(torch.from_numpy(labels)), turned, source, CREW)
    np.testing.assert_array_equal(tensor.numpy(), labels)


def slabs_of(scores: np.ndarray, axis: int, thickness: int) -> Iterator[Slab]:
    side = scores.shape[axis + 1]
    for first in range(0, side, thickness):
        end = min(first + thickness, side)
        part = (slice(None),) * (axis + 1) + (slice(first, end),)
        yield Slab(axis, first, end, scores[part].copy())


def resized(classes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    each: list[Any] = [
        resize(one, shape, order=1, mode="edge", anti_aliasing=False) for one in classes
    ]
    return np.stack(each)


def smooth(seed: int, classes: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Scores of classes that lie in some places, as networks give them, and noise."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((classes, 3, 3, 3)) * 8
    smoothed = resized(coarse, shape)
    return (smoothed + random.standard_normal(smoothed.shape)).astype(np.float32)


@given(
    SEEDS,
    st.integers(1, 9),
    st.tuples(*[st.integers(1, 14)] * 3),
    st.tuples(*[st.integers(1, 80)] * 3),
    st.integers(0, 2),
    st.integers(1, 5),
)
def test_classes_are_those_of_scores_resized_and_compared_as_nnunet_does(
    seed: int,
    classes: int,
    shape: tuple[int, int, int],
    out: tuple[int, int, int],
    axis: int,
    thickness: int,
) -> None:
    scores = smooth(seed, classes, shape)
    source = Grid(out, np.eye(4))
    scale = np.array(out) / np.array(shape)
    affine = np.diag([*scale, 1.0])
    affine[:3, 3] = 0.5 * scale - 0.5
    work = Grid(shape, affine)
    found = restore_classes(Scores(slabs_of(scores, axis, thickness), work, classes), source, CREW)
    expected = resized(scores, out)
    ordered = np.sort(expected, axis=0)
    expected = expected.argmax(axis=0)
    clear = np.ones(out, bool) if classes == 1 else ordered[-1] - ordered[-2] > 1e-3
    np.testing.assert_array_equal(found[clear], expected[clear])
    tensors = (
        Slab(slab.axis, slab.first, slab.end, torch.from_numpy(slab.scores))
        for slab in slabs_of(scores, axis, thickness)
    )
    by_torch = restore_classes(Scores(tensors, work, classes), source, CREW)
    np.testing.assert_array_equal(by_torch.numpy()[clear], expected[clear])


@given(sources(), st.sampled_from(LETTERS), st.sampled_from(CENTRES), st.integers(0, 2), SEEDS)
def test_regions_come_back_inside_their_crop_however_the_volume_lies(
    source: Grid, axes: str, centres: Centres, along: int, seed: int
) -> None:
    """Depths in two balls are restored as scores: they cross zero at the balls' surfaces."""
    random = np.random.default_rng(seed)
    turned = source.turned(source.turn_to(axes))
    box = cut_box(turned, random)
    work = turned.cropped(box).resampled(centres, spacing_mm=(1.5, 1.5, 1.5))
    centre, radius = ball_in(source, random)
    radii = (radius, 0.5 * radius)
    scores = np.stack([depth_mm(work, centre, each) for each in radii]).astype(np.float32)
    found = restore_scores(
        Scores(slabs_of(scores, along, 3), work, 2),
        source,
        lambda block: regions_to_labels(thresholded(block, [0.0, 0.0]), [2, 1]),
        3,
        CREW,
    )
    kept = np.zeros(turned.shape, bool)
    kept[box] = True
    inside = source.turn_to(axes).back.apply(kept)
    reached = nearest_onto(np.ones(work.shape, np.uint8), work, source, CREW) == 1
    assert not found[~reached].any()
    depths = [depth_mm(source, centre, each) for each in radii]
    expected = np.where(depths[1] > 0, 1, np.where(depths[0] > 0, 2, 0))
    sure = np.min(np.abs(depths), axis=0) > 2 * reach_mm(work)
    at = sure & inside & reached
    np.testing.assert_array_equal(found[at], expected[at])


@given(sources(), st.sampled_from(LETTERS), st.sampled_from(CENTRES), st.integers(0, 2), SEEDS)
def test_scores_block_by_block_are_the_whole_volume_interpolated(
    source: Grid, axes: str, centres: Centres, along: int, seed: int
) -> None:
    turned = source.turned(source.turn_to(axes))
    box = cut_box(turned, np.random.default_rng(seed))
    work = turned.cropped(box).resampled(centres, spacing_mm=(1.5, 2.5, 1.1))
    scores = smooth(seed, 4, work.shape)
    found = restore_classes(Scores(slabs_of(scores, along, 3), work, 4), source, CREW)
    linear: Kinds = ("linear", "linear", "linear")
    whole = np.stack(
        [resample_onto(one, work, source, linear, CREW, outside=0.0) for one in scores]
    )
    ordered = np.sort(whole, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-3
    np.testing.assert_array_equal(found[clear], whole.argmax(axis=0)[clear])


def test_slabs_that_break_off_are_refused() -> None:
    grid = Grid((6, 4, 4), np.eye(4))
    scores = np.zeros((2, 6, 4, 4), np.float32)
    for broken in (
        [Slab(0, 0, 3, scores[:, :3])],
        [Slab(0, 0, 3, scores[:, :3]), Slab(0, 4, 6, scores[:, 4:])],
    ):
        with pytest.raises(RequestError, match="break off"):
            restore_classes(Scores(iter(broken), grid, 2), grid, CREW)

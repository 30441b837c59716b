"""Tiles lie, and count, as in the systems whose rules they follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers.utils import sliding_window_inference
from scipy.ndimage import gaussian_filter

from models.runtime.errors import RequestError
from models.runtime.tile_weights import tile_weights
from models.runtime.tiling import Rule, read_patch, tile

SIDES = st.integers(1, 70)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
STEPS = st.sampled_from([0.25, 0.375, 0.5, 0.8, 1.0])
PATCHES = st.tuples(*[st.integers(2, 24)] * 3)


# From nnunetv2 2.8.1's compute_steps_for_sliding_window.
@pytest.mark.parametrize(
    ("shape", "patch", "step", "starts"),
    [
        (
            (300, 300, 500),
            (128, 128, 128),
            0.8,
            ((0, 86, 172), (0, 86, 172), (0, 93, 186, 279, 372)),
        ),
        (
            (300, 300, 500),
            (128, 128, 128),
            0.5,
            ((0, 57, 115, 172), (0, 57, 115, 172), (0, 62, 124, 186, 248, 310, 372)),
        ),
        ((128, 130, 257), (112, 112, 128), 0.5, ((0, 16), (0, 18), (0, 43, 86, 129))),
        ((110, 40, 33), (64, 40, 32), 0.5, ((0, 23, 46), (0,), (0, 1))),
        # A 2d configuration goes through the planes one by one.
        ((5, 40, 33), (1, 40, 32), 0.5, ((0, 1, 2, 3, 4), (0,), (0, 1))),
    ],
)
def test_tiles_start_where_nnunet_has_them(
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    step: float,
    starts: tuple[tuple[int, ...], ...],
) -> None:
    assert tile(shape, patch, step, "nnunet").starts == starts


@given(SHAPES, PATCHES, STEPS)
def test_tiles_start_where_monai_has_them(
    shape: tuple[int, int, int], patch: tuple[int, int, int], step: float
) -> None:
    tiling = tile(shape, patch, step, "monai")
    interval = [
        size if size == side else max(int(size * step), 1)
        for size, side in zip(patch, tiling.padded, strict=True)
    ]
    expected = {
        tuple(int(part.start) for part in slices)
        for slices in dense_patch_slices(tiling.padded, patch, interval)
    }
    assert set(tiling) == expected
    assert tiling.count == len(expected)


@given(SHAPES, PATCHES, STEPS, st.sampled_from(["nnunet", "monai", "blast"]))
def test_tiles_cover_every_voxel_and_stay_inside(
    shape: tuple[int, int, int], patch: tuple[int, int, int], step: float, rule: Rule
) -> None:
    tiling = tile(shape, patch, 1.0 if rule == "blast" else step, rule)
    for starts, size, padded, before, side in zip(
        tiling.starts, tiling.size, tiling.padded, tiling.before, shape, strict=True
    ):
        covered = np.zeros(padded, int)
        for start in starts:
            assert 0 <= start <= padded - size
            covered[start : start + size] += 1
        assert covered.min() >= 1
        assert list(starts) == sorted(starts)
        if rule != "blast":
            after = padded - side - before
            assert after - before in (0, 1)
    along = [start[tiling.long_axis] for start in tiling]
    assert along == sorted(along)


def test_blasts_tiles_lie_beside_each_other_with_a_margin() -> None:
    tiling = tile((60, 61, 29), (110, 110, 110), 1.0, "blast", margin=(40, 40, 40))
    assert tiling.size == (30, 30, 30)
    # Its code lays size // 30 + 1 tiles: one over the end even where they fit.
    assert tiling.starts == ((0, 30, 60), (0, 30, 60), (0,))


@given(SHAPES, PATCHES, st.tuples(*[st.integers(0, 3)] * 3), st.booleans(), st.integers(0, 99))
def test_patches_are_those_of_the_padded_volume(
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    margin: tuple[int, int, int],
    edge: bool,
    seed: int,
) -> None:
    first, second, third = (size + 2 * lost for size, lost in zip(patch, margin, strict=True))
    tiling = tile(shape, (first, second, third), 0.5, "nnunet", margin)
    volume = np.random.default_rng(seed).random((2, *shape), np.float32)
    widths = [
        (before + lost, padded - side - before + lost)
        for before, lost, padded, side in zip(
            tiling.before, margin, tiling.padded, shape, strict=True
        )
    ]
    padded = (
        np.pad(volume, [(0, 0), *widths], mode="edge")
        if edge
        else np.pad(volume, [(0, 0), *widths], constant_values=-3.0)
    )
    starts = list(tiling)
    for start in (starts[0], starts[len(starts) // 2], starts[-1]):
        found = read_patch(volume, tiling, start, "edge" if edge else -3.0)
        part = tuple(
            slice(at, at + size) for at, size in zip(start, (first, second, third), strict=True)
        )
        np.testing.assert_array_equal(found, padded[(slice(None), *part)])
        tensor = read_patch(torch.from_numpy(volume), tiling, start, "edge" if edge else -3.0)
        np.testing.assert_array_equal(tensor.numpy(), found)


@pytest.mark.parametrize(("step", "rule"), [(0.0, "nnunet"), (1.5, "monai"), (0.5, "blast")])
def test_steps_that_are_none_are_refused(step: float, rule: Rule) -> None:
    with pytest.raises(RequestError):
        tile((9, 9, 9), (4, 4, 4), step, rule)
    with pytest.raises(RequestError):
        tile((9, 9, 9), (4, 4, 4), 1.0, rule, margin=(2, 0, 0))


# nnunetv2 2.8.1's compute_gaussian(patch, value_scaling_factor=10): sum, least, and three weights.
@pytest.mark.parametrize(
    ("patch", "total", "least", "quarter", "side", "eighth"),
    [
        ((128, 128, 128), 644986.160444, 2**-24, 1.353515625, 0.003355026245, 0.0247802734375),
        ((5, 6, 9), 83.113044142723, 2**-24, 2.05859375, 0.05975341796875, 0.016357421875),
        ((1, 33, 40), 1295.778494715691, 1.788139e-06, 1.353515625, 10.0, 0.2064208984375),
    ],
)
def test_nnunets_weights_are_known(
    patch: tuple[int, int, int],
    total: float,
    least: float,
    quarter: float,
    side: float,
    eighth: float,
) -> None:
    weights = tile_weights(patch, "gaussian-nnunet").astype(np.float64)
    a, b, c = patch
    assert weights.sum() == pytest.approx(total, rel=1e-6)
    assert weights.min() == weights[0, 0, 0]
    # A half has a unit of 1 in 1024.
    assert weights[0, 0, 0] == pytest.approx(least, rel=1e-5)
    assert weights[a // 2, b // 2, c // 4] == pytest.approx(quarter, rel=1e-5)
    assert weights[0, b // 2, c // 2] == pytest.approx(side, rel=1e-5)
    assert weights[a // 4, b // 4, c // 4] == pytest.approx(eighth, rel=1e-5)


@given(st.tuples(*[st.integers(1, 40)] * 3))
def test_nnunets_weights_are_a_filtered_point(patch: tuple[int, int, int]) -> None:
    point = np.zeros(patch)
    point[tuple(side // 2 for side in patch)] = 1
    expected = gaussian_filter(point, [side / 8 for side in patch], mode="constant")
    expected = (expected / (expected.max() / 10)).astype(np.float16)
    expected[expected == 0] = expected[expected > 0].min()
    # The halves that SciPy's order of summing rounds the other way differ by one unit.
    found = tile_weights(patch, "gaussian-nnunet").astype(np.float16)
    units = np.abs(found.view(np.int16).astype(int) - expected.view(np.int16))
    assert units.max() <= 1
    assert (units > 0).mean() <= max(0.01, 8 / units.size)


@given(st.tuples(*[st.integers(1, 40)] * 3))
def test_monais_weights_are_its_own(patch: tuple[int, int, int]) -> None:
    expected = compute_importance_map(patch, mode="gaussian", sigma_scale=0.125).numpy()
    np.testing.assert_allclose(tile_weights(patch, "gaussian-monai"), expected, rtol=1e-5)
    assert (tile_weights(patch, "constant") == 1).all()


def test_weights_cannot_be_changed_behind_the_next_tile() -> None:
    with pytest.raises(ValueError, match="read-only"):
        tile_weights((4, 4, 4), "constant")[0, 0, 0] = 2


def test_the_way_from_volume_to_patches_is_monais() -> None:
    """Every patch that MONAI's sliding window hands to a network, in any order."""
    volume = np.random.default_rng(4).random((1, 9, 30, 21), np.float32)
    seen: list[np.ndarray] = []

    def network(patch: torch.Tensor) -> torch.Tensor:
        seen.append(patch[0].numpy().copy())
        return patch

    sliding_window_inference(
        torch.from_numpy(volume)[None], (12, 12, 12), 1, network, overlap=0.375
    )
    tiling = tile((9, 30, 21), (12, 12, 12), 1 - 0.375, "monai")
    ours = [read_patch(volume, tiling, start, 0.0) for start in tiling]
    assert len(ours) == len(seen) == math.prod(len(each) for each in tiling.starts)
    assert sorted(each.tobytes() for each in ours) == sorted(each.tobytes() for each in seen)

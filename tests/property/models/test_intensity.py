"""Quantiles and standardisation equal PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.runtime.crew import Crew
from models.runtime.intensity import Window, measured, quantiles, to_window

MEAN, STD = 0.449, 0.226
VOLUMES = arrays.arrays(
    np.float32,
    st.tuples(*[st.integers(1, 7)] * 3),
    elements=st.floats(-1e4, 1e4, width=32),
)


def normalised_by_torch(values: np.ndarray, window: Window) -> np.ndarray:
    """deepbet's `normalize`, in float64 so that the reference is exact."""
    tensor = torch.from_numpy(values).to(torch.float64)
    low, high = float(window.low), float(window.high)
    tensor = ((tensor - low) / (high - low)).clamp(min=0, max=1)
    tensor = (tensor - tensor.mean()) / tensor.std()
    return (STD * tensor + MEAN).numpy()


@given(VOLUMES, st.floats(0.0, 0.5), st.floats(0.5, 1.0))
def test_quantiles_equal_torch(values: np.ndarray, low: float, high: float) -> None:
    tensor = torch.from_numpy(values.copy())
    window = quantiles(values, (low, high), Crew(2))
    assert window.low == tensor.quantile(low).numpy()
    assert window.high == tensor.quantile(high).numpy()


@pytest.mark.parametrize("spread", [1.0, 300.0])
def test_quantiles_of_a_whole_grid_equal_torch(spread: float) -> None:
    random = np.random.default_rng(3)
    values = (random.standard_normal((128, 128, 128)) * spread).astype(np.float32)
    values[:40] = 0
    window = quantiles(values, (0.005, 0.995), Crew(2))
    tensor = torch.from_numpy(values)
    assert window.low == tensor.quantile(0.005).numpy()
    assert window.high == tensor.quantile(0.995).numpy()


@given(st.tuples(*[st.integers(2, 8)] * 3), st.tuples(*[st.integers(8, 20)] * 3))
def test_distinct_values_with_repeats_equal_the_whole_grid(
    sizes: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    values = np.random.default_rng(4).random(sizes, dtype=np.float32) * 900
    window = quantiles(values, (0.05, 0.95), Crew(2))
    picks = [
        np.sort(np.random.default_rng(5).integers(0, size, target))
        for size, target in zip(sizes, shape, strict=True)
    ]
    distinct = [np.unique(axis, return_inverse=True, return_counts=True) for axis in picks]
    grid = values[np.ix_(*picks)]
    small = np.ascontiguousarray(values[np.ix_(*[unique[0] for unique in distinct])])
    counts = (distinct[0][2], distinct[1][2], distinct[2][2])
    to_window(small, window, counts, Crew(1)).scaling_to(MEAN, STD).write(small, small)
    expanded = small[np.ix_(*[unique[1] for unique in distinct])]
    if np.ptp(np.clip(grid, window.low, window.high)) > 0:
        assert np.allclose(expanded, normalised_by_torch(grid, window), atol=2e-5)


def test_standardising_equals_deepbet_on_a_large_grid() -> None:
    values = np.random.default_rng(6).gamma(2.0, 200.0, (96, 96, 96)).astype(np.float32)
    window = quantiles(values, (0.005, 0.995), Crew(2))
    expected = normalised_by_torch(values, window)
    once = (np.ones(96, np.intp), np.ones(96, np.intp), np.ones(96, np.intp))
    to_window(values, window, once, Crew(2)).scaling_to(MEAN, STD).write(values, values)
    assert np.abs(values - expected).max() < 5e-6


@given(VOLUMES, st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_what_was_not_measured_has_no_part_in_any_statistic(
    values: np.ndarray, seed: int, share: float
) -> None:
    unmeasured = np.random.default_rng(seed).random(values.shape) < share
    kept = values[~unmeasured]
    holed = np.where(unmeasured, np.float32(np.nan), values)
    window = quantiles(measured(holed), (0.005, 0.995), Crew(2))
    if not kept.size:
        assert window.is_empty
        return
    assert window == quantiles(kept, (0.005, 0.995), Crew(2))
    counts = tuple(np.random.default_rng(seed).integers(1, 4, size) for size in values.shape)
    times = counts[0][:, None, None] * counts[1][:, None] * counts[2]
    clipped = np.clip(kept, window.low, window.high) - window.low
    moments = to_window(holed, window, counts, Crew(1))  # type: ignore[arg-type]
    assert moments.count == times[~unmeasured].sum()
    total = (clipped.astype(np.float64) * times[~unmeasured]).sum()
    squares = (np.square(clipped.astype(np.float64)) * times[~unmeasured]).sum()
    assert moments.total == pytest.approx(total, rel=1e-5, abs=1e-3)
    assert moments.squares == pytest.approx(squares, rel=1e-4, abs=1e-3)
    assert not holed[unmeasured].any()  # the window's low end


def test_infinities_become_the_largest_numbers() -> None:
    values = np.array([[[np.nan, np.inf, -np.inf, 3.0]]], np.float32)
    largest = np.finfo(np.float32).max
    assert measured(values).tolist() == [largest, -largest, 3.0]
    assert np.isinf(values).sum() == 2  # the volume itself is only read


def test_values_whose_sum_is_too_large_for_their_type_are_all_measured() -> None:
    values = np.full((2, 3, 4), 3e38, np.float32)
    assert np.array_equal(np.sort(measured(values).ravel()), values.ravel())


def test_a_constant_image_has_an_empty_window() -> None:
    assert quantiles(np.full((4, 4, 4), 3.0, np.float32), (0.005, 0.995), Crew(2)).is_empty


def test_threads_do_not_show() -> None:
    values = np.random.default_rng(7).gamma(2.0, 200.0, (64, 50, 40)).astype(np.float32)
    window = quantiles(values, (0.005, 0.995), Crew(2))
    counts = tuple(np.random.default_rng(8).integers(1, 4, size) for size in values.shape)
    moments = [to_window(values.copy(), window, counts, Crew(threads)) for threads in (1, 2, 3)]  # type: ignore[arg-type]
    assert moments[0] == moments[1] == moments[2]

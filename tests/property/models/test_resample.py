"""Nearest-exact resampling equals PyTorch's, index for index."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.runtime.crew import Crew
from models.runtime.orientation import Turn
from models.runtime.resample import gather, nearest_exact_indices, repeat_into
from models.runtime.source_volume import SourceVolume

SIZES = st.integers(1, 700)
SMALL = st.tuples(*[st.integers(1, 40)] * 3)
CREW = Crew(2)
AXES = st.permutations([0, 1, 2])
FLIPS = st.tuples(*[st.booleans()] * 3)


def by_torch(volume: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(volume))[None, None]
    return functional.interpolate(tensor, shape, mode="nearest-exact")[0, 0].numpy()


@settings(max_examples=400)
@given(SIZES, SIZES)
def test_indices_equal_torch(size_in: int, size_out: int) -> None:
    line = torch.arange(size_in, dtype=torch.float32)[None, None]
    expected = functional.interpolate(line, size_out, mode="nearest-exact")[0, 0].numpy()
    assert np.array_equal(nearest_exact_indices(size_in, size_out), expected)


def test_indices_equal_torch_onto_the_networks_grids() -> None:
    for size_out in (128, 256):
        for size_in in range(1, 1025):
            line = torch.arange(size_in, dtype=torch.float32)[None, None]
            expected = functional.interpolate(line, size_out, mode="nearest-exact")[0, 0].numpy()
            assert np.array_equal(nearest_exact_indices(size_in, size_out), expected)


def onto(sizes: tuple[int, ...], shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    return tuple(nearest_exact_indices(a, b) for a, b in zip(sizes, shape, strict=True))


@given(SMALL, SMALL, AXES, FLIPS)
def test_gathering_equals_turning_then_torch(
    sizes: tuple[int, int, int],
    shape: tuple[int, int, int],
    axes: list[int],
    flips: tuple[bool, bool, bool],
) -> None:
    source = np.random.default_rng(0).random(sizes, dtype=np.float32)
    turn = Turn((axes[0], axes[1], axes[2]), flips)
    canonical = turn.apply(source)
    volume = SourceVolume(source, np.eye(4))
    picked = gather(volume, turn, onto(canonical.shape, shape), CREW)  # type: ignore[arg-type]
    assert picked.flags.c_contiguous
    assert np.array_equal(picked, by_torch(canonical, shape))


@given(SMALL, SMALL)
def test_repeating_equals_torch(sizes: tuple[int, int, int], shape: tuple[int, int, int]) -> None:
    small = np.random.default_rng(1).random(sizes, dtype=np.float32)
    out = np.empty(shape, np.float32)
    repeat_into(small, onto(sizes, shape), out, CREW)  # type: ignore[arg-type]
    assert np.array_equal(out, by_torch(small, shape))

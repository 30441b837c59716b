"""A voxel has the same value wherever it is made of what was stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.orientation import closest_canonical
from models.runtime.resample import Axes, gather
from models.runtime.source_volume import SourceVolume
from services.imaging.volume import Rescale, Volume

AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])
RESCALES = [(1.0, 0.0), (1.0, -1024.0), (0.1, 0.0), (2.19707, 1e6), (-0.37, 3.3), (1e-9, 1e-9)]


def every_int16(*shape: int) -> NDArray[np.int16]:
    return np.arange(-(2**15), 2**15, dtype=np.int16).reshape(shape)


def gathered(volume: SourceVolume, threads: int) -> NDArray[np.float32]:
    turn = closest_canonical(volume.affine_lps)
    canonical = turn.apply(volume.voxels)
    axes: Any = tuple(np.arange(size) for size in canonical.shape)
    crew = Crew(threads)
    try:
        picked: Axes = axes
        return turn.back.apply(gather(volume, turn, picked, crew))
    finally:
        crew.close()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("slope", "intercept"), RESCALES)
def test_values_are_bit_for_bit_those_of_imaging(
    slope: float, intercept: float, threads: int
) -> None:
    stored = every_int16(64, 32, 32)
    values = Volume(stored, AFFINE, rescale=Rescale(slope, intercept)).values()
    ours = gathered(SourceVolume(stored, AFFINE, slope, intercept), threads)
    assert np.array_equal(ours.view(np.uint32), values.view(np.uint32))


@pytest.mark.parametrize(("slope", "intercept"), RESCALES)
def test_unsigned_voxels_have_values_beyond_int16(slope: float, intercept: float) -> None:
    stored = np.arange(2**16, dtype=np.uint16).reshape(64, 32, 32)
    values = np.empty(stored.shape, np.float32)
    Rescale(slope, intercept).write(stored, values)
    ours = gathered(SourceVolume(stored, AFFINE, slope, intercept), 2)
    assert np.array_equal(ours.view(np.uint32), values.view(np.uint32))


def test_what_was_not_measured_stays_so() -> None:
    values = np.full((16, 16, 16), np.nan, np.float32)
    values[4:8] = 3.0
    assert np.array_equal(gathered(SourceVolume(values, AFFINE), 2), values, equal_nan=True)


@pytest.mark.parametrize(
    ("voxels", "slope", "intercept", "problem"),
    [
        (np.zeros((3, 3), np.float32), 1.0, 0.0, "must be int16, uint16, float32"),
        (np.zeros((3, 3, 3), np.int32), 1.0, 0.0, "not int32"),
        (np.zeros((3, 0, 3), np.int16), 1.0, 0.0, "empty side"),
        (np.zeros((3, 3, 3), np.int16), 0.0, 0.0, "make no values"),
        (np.zeros((3, 3, 3), np.int16), 1.0, float("inf"), "make no values"),
        (np.zeros((3, 3, 3), np.float32), 1.0, 1.0, "must be 1 and 0"),
    ],
)
def test_voxels_that_have_no_values_are_refused(
    voxels: Any, slope: float, intercept: float, problem: str
) -> None:
    with pytest.raises(RequestError, match=problem):
        SourceVolume(voxels, AFFINE, slope, intercept)

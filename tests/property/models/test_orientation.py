"""Orientation: nibabel's answer for every axis order, flip and obliquity; and there and back."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.runtime.errors import RequestError
from models.runtime.orientation import closest_canonical

AXES = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((1.0, -1.0), repeat=3))
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(axes: tuple[int, ...], flips: tuple[float, ...], spacing: np.ndarray) -> np.ndarray:
    """LPS affine whose column c (of i, j, k) runs along LPS axis axes[c]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[axis, column] = flip * spacing[column]
    affine[:3, 3] = (-80.0, 33.5, 12.25)
    return affine


def by_nibabel(volume: np.ndarray, affine_lps: np.ndarray) -> np.ndarray:
    """What nibabel makes of [k, j, i] in LPS: closest canonical, [x, y, z]."""
    image = nib.Nifti1Image(volume.transpose(2, 1, 0), TO_LPS @ affine_lps)
    return np.asarray(nib.as_closest_canonical(image).dataobj)


def numbered(shape: tuple[int, int, int] = (3, 4, 5)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("axes", AXES)
def test_all_48_axis_orders_equal_nibabel(axes: tuple[int, ...], flips: tuple[float, ...]) -> None:
    volume = numbered()
    affine = affine_of(axes, flips, np.array([0.9, 1.1, 2.0]))
    turn = closest_canonical(affine)
    canonical = turn.apply(volume)
    assert np.shares_memory(canonical, volume)
    assert np.array_equal(canonical, by_nibabel(volume, affine))
    assert np.array_equal(turn.back.apply(canonical), volume)


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turned = step @ turned
    return turned


@given(
    axes=st.sampled_from(AXES),
    flips=st.sampled_from(FLIPS),
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 8.0)] * 3),
)
# So oblique that it matters which axis is given first.
@example(axes=AXES[0], flips=FLIPS[0], angles=(0.7, -0.7, 3.0), spacing=(1.0, 1.0, 1.0))
def test_oblique_volumes_equal_nibabel(
    axes: tuple[int, ...],
    flips: tuple[float, ...],
    angles: tuple[float, float, float],
    spacing: tuple[float, float, float],
) -> None:
    volume = numbered((2, 3, 4))
    affine = affine_of(axes, flips, np.array(spacing))
    affine[:3, :3] = rotation(angles) @ affine[:3, :3]
    turn = closest_canonical(affine)
    canonical = turn.apply(volume)
    assert np.array_equal(canonical, by_nibabel(volume, affine))
    assert np.array_equal(turn.back.apply(canonical), volume)


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(3),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
    ],
)
def test_an_affine_that_spans_no_space_is_an_error(affine: np.ndarray) -> None:
    with pytest.raises(RequestError):
        closest_canonical(affine)

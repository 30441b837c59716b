"""Grids: turning, cropping and resampling move no voxel in the patient."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.runtime.crew import Crew
from models.runtime.errors import RequestError
from models.runtime.grid import SAME_PLACE_MM, Grid
from models.runtime.placing import place
from models.runtime.sampling import Centres
from models.runtime.separable import Kinds, nearest_onto, resample_onto

LETTERS = [
    "".join(letters)
    for ends in itertools.product("RL", "AP", "SI")
    for letters in itertools.permutations(ends)
]
SIDES = st.integers(1, 9)
SHAPES = st.tuples(SIDES, SIDES, SIDES)
CREW = Crew(2)
LINEAR: Kinds = ("linear", "linear", "linear")


@st.composite
def grids(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int, int]] = SHAPES) -> Grid:
    """Oblique, flipped, anisotropic, with axes in any order."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rotation, _ = np.linalg.qr(random.standard_normal((3, 3)))
    spacing = random.uniform(0.4, 6.0, 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return Grid(draw(shapes), affine)


def positions(grid: Grid) -> np.ndarray:
    """LPS of every voxel [3, a0, a1, a2]."""
    indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return np.moveaxis(grid.positions_lps(indices.astype(np.float64)), -1, 0)


@given(grids(), st.sampled_from(LETTERS))
def test_turning_moves_no_voxel_and_points_where_asked(grid: Grid, axes: str) -> None:
    turn = grid.turn_to(axes)
    turned = grid.turned(turn)
    assert turned.axes == axes
    np.testing.assert_allclose(positions(turned), turn.apply(positions(grid)), atol=1e-9)
    assert turned.turned(turn.back).same_as(grid, 1e-9)
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape)
    assert np.shares_memory(turn.apply(array), array)
    np.testing.assert_array_equal(turn.back.apply(turn.apply(array)), array)
    tensor = turn.apply(torch.from_numpy(array))
    np.testing.assert_array_equal(tensor.numpy(), turn.apply(array))


@given(grids())
def test_letters_are_nibabels(grid: Grid) -> None:
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine_lps
    # A source volume [k, j, i] has its columns in the order (i, j, k) there.
    of_source = nib.orientations.aff2axcodes(to_ras[:, [2, 1, 0, 3]])
    assert grid.axes == "".join(of_source)[::-1]


@given(grids(), st.data())
def test_a_box_moves_no_voxel(grid: Grid, data: st.DataObject) -> None:
    slices = []
    for side in grid.shape:
        start = data.draw(st.integers(0, side - 1))
        slices.append(slice(start, data.draw(st.integers(start + 1, side))))
    part = grid.cropped((slices[0], slices[1], slices[2]))
    np.testing.assert_allclose(positions(part), positions(grid)[(slice(None), *slices)], atol=1e-9)
    assert part.before is grid


@pytest.mark.parametrize("side", [slice(0, 5), slice(2, 2), slice(-1, 2), slice(0, 4, 2)])
def test_a_box_that_leaves_its_grid_or_is_empty_is_refused(side: slice) -> None:
    with pytest.raises(RequestError, match="no part of an axis of 4 voxels"):
        Grid((4, 4, 4), np.eye(4)).cropped((side, slice(0, 4), slice(0, 4)))


@given(grids(), st.floats(-1.0, 1.0))
def test_grids_are_the_same_by_where_their_voxels_lie(grid: Grid, turned_by: float) -> None:
    assert grid.same_as(Grid(grid.shape, grid.affine_lps))
    moved = np.array(grid.affine_lps)
    moved[:3, 3] += np.array([0.0, 2 * SAME_PLACE_MM, 0.0])
    assert not grid.same_as(Grid(grid.shape, moved))
    assert grid.same_as(Grid(grid.shape, moved), within_mm=3 * SAME_PLACE_MM)
    first, second, third = grid.shape
    assert not grid.same_as(Grid((first, second, third + 1), grid.affine_lps))


BIG = st.tuples(*[st.integers(4, 20)] * 3)
CENTRES: tuple[Centres, ...] = ("half-pixel", "aligned", "spacing")


@given(
    grids(BIG),
    st.tuples(*[st.floats(0.5, 5.0)] * 3),
    st.sampled_from(CENTRES),
    st.sampled_from(LETTERS),
)
def test_resampled_values_are_those_of_the_place(
    grid: Grid, spacing: tuple[float, float, float], centres: Centres, axes: str
) -> None:
    """A linear function of the position is interpolated exactly wherever no end is near."""
    turned = grid.turned(grid.turn_to(axes))
    onto = turned.resampled(centres, spacing_mm=spacing)
    placement = place(turned, onto)
    found = np.stack(
        [
            resample_onto(one.astype(np.float32), turned, onto, LINEAR, CREW, outside=0.0)
            for one in positions(turned)
        ]
    )
    inside = np.ones(onto.shape, bool)
    for axis, sampling in enumerate(placement.axes):
        shape = [1, 1, 1]
        shape[axis] = -1
        fits = (sampling.places >= 0) & (sampling.places <= sampling.size_in - 1)
        inside &= np.resize(fits, onto.shape[axis]).reshape(shape)
    if placement.covers(onto):
        apart = np.abs(found - positions(onto))[:, inside]
        assert apart.size == 0 or apart.max() < 1e-2


@given(grids(BIG), st.tuples(*[st.integers(-5, 5)] * 3), BIG)
def test_what_lies_outside_is_filled(
    grid: Grid, start: tuple[int, int, int], shape: tuple[int, int, int]
) -> None:
    affine = np.array(grid.affine_lps)
    affine[:3, 3] = grid.positions_lps(np.array(start, np.float64))
    onto = Grid(shape, affine)
    found = resample_onto(np.ones(grid.shape), grid, onto, LINEAR, CREW, outside=-7.0)
    expected = np.full(shape, -7.0)
    places = [
        slice(max(-first, 0), max(min(side - first, size), 0))
        for first, side, size in zip(start, grid.shape, shape, strict=True)
    ]
    expected[tuple(places)] = 1.0
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    labels = nearest_onto(np.ones(grid.shape, np.uint8), grid, onto, CREW)
    np.testing.assert_array_equal(labels, expected == 1.0)


def test_grids_oblique_to_each_other_are_refused() -> None:
    straight = Grid((9, 9, 9), np.eye(4))
    tilted = np.eye(4)
    tilted[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    with pytest.raises(RequestError, match="oblique"):
        place(straight, Grid((9, 9, 9), tilted))

"""An image onto the grid of another: by where both lie, against SciPy's interpolation at points."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.runtime.crew import Crew
from models.runtime.grid import Grid
from models.runtime.images import Held, Image
from models.runtime.onto_grid import onto_grid

F32 = NDArray[np.float32]
CREW = Crew(2)
STRAIGHT = np.diag([1.0, 1.0, 1.0, 1.0])


def oblique() -> NDArray[np.float64]:
    """Turned about two axes, other voxels, other order of axes, another place."""
    a, b = 0.3, -0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = (about_z @ about_x @ np.diag([1.4, 0.8, -2.1]))[:, [2, 0, 1]]
    affine[:3, 3] = (3.0, -2.0, 25.0)
    return affine


@pytest.fixture
def values() -> F32:
    soft = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=(14, 17, 19)), 1.0)
    return (100.0 * soft).astype(np.float32)


def image_of(values: F32, affine: NDArray[np.float64], role: str = "second") -> Image:
    return Image(Grid(values.shape, affine, role), (Held(values),))


def places(of: Grid, onto: Grid) -> NDArray[np.float64]:
    """The index, with its fraction, in one grid of each voxel of the other, [3, *shape]."""
    index = np.moveaxis(np.indices(onto.shape).astype(np.float64), 0, -1)
    at = onto.positions_lps(index) - of.affine_lps[:3, 3]
    return np.moveaxis(at @ np.linalg.inv(of.affine_lps[:3, :3]).T, -1, 0)


def inside(at: NDArray[np.float64], shape: tuple[int, ...], by: float) -> NDArray[np.bool_]:
    """Which places lie within the voxels of an array, and farther than `by` from their edge."""
    ends = np.array(shape)[:, None, None, None] - 0.5
    return np.all((at > by - 0.5) & (at < ends - by), axis=0)


@pytest.mark.parametrize(("order", "degree"), [("linear", 1), ("nearest", 0)])
def test_each_voxel_has_the_value_at_its_place(values: F32, order: str, degree: int) -> None:
    onto = Grid((9, 12, 15), oblique(), "first")
    image = image_of(values, STRAIGHT)
    made = onto_grid(image, onto, "linear" if degree else "nearest", CREW)
    (channel,) = made.arrays(CREW)
    at = places(image.grid, onto)
    wanted = ndimage.map_coordinates(values, at, order=degree, mode="nearest", prefilter=False)
    sure = inside(at, values.shape, 1e-6)
    assert made.grid is onto
    assert sure.any()
    assert not sure.all()
    assert np.abs(channel[sure] - wanted[sure]).max() < 2e-3
    assert np.isnan(channel[~inside(at, values.shape, -1e-6)]).all()


def test_what_was_not_measured_is_not_where_it_comes_to_lie(values: F32) -> None:
    values[:5] = np.nan
    onto = Grid((9, 12, 15), oblique(), "first")
    image = image_of(values, STRAIGHT)
    (channel,) = onto_grid(image, onto, "linear", CREW).arrays(CREW)
    at = places(image.grid, onto)
    sure = inside(at, values.shape, 1e-6)
    unmeasured = sure & (at[0] < 4.4)
    assert unmeasured.any()
    assert np.isnan(channel[unmeasured]).all()
    assert np.isfinite(channel[sure & (at[0] > 4.6)]).all()


def test_on_the_same_grid_nothing_is_moved(values: F32) -> None:
    image = image_of(values, oblique())
    onto = Grid(values.shape, oblique(), "first")
    made = onto_grid(image, onto, "linear", CREW)
    assert made.channels == image.channels
    assert made.grid is onto


def test_threads_do_not_change_a_bit(values: F32) -> None:
    import SimpleITK

    onto, image = Grid((40, 41, 42), oblique(), "first"), image_of(values, STRAIGHT)
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    made: list[F32] = []
    try:
        for threads in (1, 2, 5):
            SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            made += onto_grid(image, onto, "linear", CREW).arrays(CREW)
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert all(np.array_equal(one, made[0], equal_nan=True) for one in made[1:])

"""Values of a plan refuse what does not fit their grid."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.runtime.errors import RequestError
from models.runtime.values import Box, Grid, Image, Layers

GRID = Grid((4, 5, 6), np.diag([2.0, 1.0, 0.5, 1.0]))
OTHER = Grid((4, 5, 6), np.diag([2.0, 1.0, 0.6, 1.0]))
BOX = (slice(1, 3), slice(0, 5), slice(2, 6))


@pytest.mark.parametrize(
    "made",
    [
        lambda: Grid((4, 0, 6), np.eye(4)),
        lambda: Grid((4, 5, 6), np.zeros((4, 4))),
        lambda: GRID.turn_to("RAA"),
        lambda: GRID.turn_to("ras"),
        lambda: GRID.turn_to("RA"),
        lambda: Image(np.zeros((1, 4, 5, 7), np.float32), GRID),
        lambda: Image(np.zeros((4, 5, 6), np.float32), GRID),
        lambda: Image(np.zeros((1, 4, 5, 6), np.float32), GRID, np.ones((4, 5, 7), bool)),
        lambda: Layers(np.zeros((4, 5, 6), np.float32), GRID),
        lambda: Layers(np.zeros((4, 5), np.uint8), GRID),
        lambda: Box(GRID, (slice(0, 5), slice(0, 5), slice(0, 6))),
        lambda: Box(GRID, (slice(2, 2), slice(0, 5), slice(0, 6))),
        lambda: Layers(np.zeros((4, 5, 6), np.uint8), GRID).cropped(Box(OTHER, BOX)),
        lambda: Image(np.zeros((1, 4, 5, 6), np.float32), GRID).cropped(Box(OTHER, BOX)),
    ],
)
def test_what_does_not_fit_is_refused(made: Callable[[], object]) -> None:
    with pytest.raises(RequestError):
        made()


def test_cropping_and_turning_take_the_mask_along_and_copy_nothing() -> None:
    array = np.arange(240, dtype=np.float32).reshape(2, 4, 5, 6)
    measured = array[0] > 20
    image = Image(array, GRID, measured).cropped(Box(GRID, BOX)).turned("SPL")
    assert np.shares_memory(image.array, array)
    assert image.measured is not None
    assert np.shares_memory(image.measured, measured)
    np.testing.assert_array_equal(image.measured, image.array[0] > 20)
    assert image.channels == 2


def test_a_grid_says_its_spacing_and_volume() -> None:
    assert GRID.spacing_mm == (2.0, 1.0, 0.5)
    assert GRID.voxel_ml == pytest.approx(0.001)
    assert GRID.axes == "LPS"


def test_an_affine_cannot_be_changed_behind_a_grid() -> None:
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 3] = 5.0
    assert grid.affine_lps[0, 3] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        grid.affine_lps[0, 3] = 5.0


def test_labels_may_be_tensors() -> None:
    labels = Layers(torch.zeros((4, 5, 6), dtype=torch.uint8), GRID).turned("RAS")
    assert labels.grid.axes == "RAS"

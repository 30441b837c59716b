"""Registration finds how a head was moved, the same each time, and knows when it failed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.manifest.plan.register import Register
from models.manifest.roles import Align
from models.runtime.crew import Crew
from models.runtime.grid import Grid
from models.runtime.images import Held, Image
from models.runtime.record import Stopwatch
from models.runtime.registration import agreement, register
from models.runtime.running import Refused, Run
from models.runtime.steps.register import register as step_register

F32 = NDArray[np.float32]
SHAPE = (40, 48, 44)
GRID = Grid(SHAPE, np.diag([3.0, 3.0, 3.0, 1.0]), "fixed")


def turned(degrees: float, shift_mm: tuple[float, float, float]) -> NDArray[np.float64]:
    """A turn about a slanted axis through the middle of the grid, and a shift."""
    axis = np.array([0.3, 0.2, 0.93])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    angle = np.deg2rad(degrees)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    middle = GRID.positions_lps((np.array(SHAPE) - 1) / 2.0)
    moved = np.eye(4)
    moved[:3, :3] = turn
    moved[:3, 3] = middle - turn @ middle + shift_mm
    return moved


def head(contrast: int) -> F32:
    """A head of a few lopsided parts; the two contrasts show the same parts in other greys."""
    greys = {0: (0, 90, 40, 100, 20, 60), 1: (0, 30, 80, 20, 100, 55)}[contrast]
    z, y, x = np.meshgrid(*(np.arange(side, dtype=float) for side in SHAPE), indexing="ij")
    parts = [
        (20, 24, 22, 17, 21, 18),
        (21, 24, 22, 14, 18, 15),
        (23, 19, 17, 5, 7, 4),
        (19, 30, 28, 4, 5, 6),
        (14, 22, 20, 3, 8, 9),
    ]
    shown = np.zeros(SHAPE)
    for (a, b, c, ra, rb, rc), grey in zip(parts, greys[1:], strict=True):
        shown[((z - a) / ra) ** 2 + ((y - b) / rb) ** 2 + ((x - c) / rc) ** 2 < 1] = grey
    noise = np.random.default_rng(contrast).normal(0.0, 2.0, SHAPE)
    return (ndimage.gaussian_filter(shown, 0.8) + noise).astype(np.float32)


MOVED = turned(9.0, (7.0, -5.0, 9.0))
BACK = np.linalg.inv(MOVED).astype(np.float64)


@pytest.mark.parametrize("by", ["rigid", "affine"])
def test_a_moved_head_of_another_contrast_is_found(by: Any) -> None:
    found = register(head(0), GRID, head(1), GRID.moved(BACK), by)
    left = GRID.positions_lps(np.array([[10, 12, 11], [30, 36, 33], [20, 24, 22]], float))
    back = left @ np.linalg.inv(MOVED)[:3, :3].T + np.linalg.inv(MOVED)[:3, 3]
    again = back @ found.to_fixed[:3, :3].T + found.to_fixed[:3, 3]
    assert np.linalg.norm(again - left, axis=1).max() < 3.0, "a voxel"
    assert found.agreement > 0.3


def test_the_same_images_give_the_same_transform_to_the_last_bit() -> None:
    one, other = (register(head(0), GRID, head(1), GRID.moved(BACK), "rigid") for _ in range(2))
    assert np.array_equal(one.to_fixed, other.to_fixed)
    assert one.agreement == other.agreement


def test_agreement_is_none_of_noise_and_whole_of_itself() -> None:
    image = head(0)
    noise = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    assert agreement(image, image) == pytest.approx(1.0)
    assert agreement(image, noise) < 0.02
    assert agreement(image, np.full(SHAPE, np.nan, np.float32)) == 0.0
    assert agreement(image, 7.0 - 2.0 * image) > 0.9


def run_of(fixed: F32, moving: F32, refuse_below: float = 0.2) -> Run:
    aligns = {"moving": Align(to="fixed", by="rigid", refuse_below=refuse_below)}
    titles = {"fixed": "FLAIR of the head", "moving": "T2 of the head"}
    run = Run({}, {}, Crew(1), Stopwatch(), {}, 1, aligns=aligns, titles=titles)
    run.keep("a", Image(GRID, (Held(fixed),)))
    run.keep("b", Image(Grid(SHAPE, GRID.affine_lps, "moving"), (Held(moving),)))
    return run


STEP = Register.model_validate({"do": "register", "in": "b", "to": "a", "out": "c"})


def test_an_alignment_that_fails_is_refused_with_the_numbers() -> None:
    noise = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    with pytest.raises(Refused) as caught:
        step_register(STEP, run_of(head(0), noise))
    refusal = caught.value.refusal
    assert refusal.reason == "alignment_failed"
    assert refusal.values["least"] == "0.2"
    assert float(refusal.values["agreement"]) < 0.05
    assert (refusal.values["role"], refusal.values["other"]) == (
        "T2 of the head",
        "FLAIR of the head",
    )


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("value", [5.0, np.nan])
def test_an_image_without_contrast_or_numbers_is_refused(place: int, value: float) -> None:
    images = [head(0), head(1)]
    images[place] = np.full(SHAPE, value, np.float32)
    with pytest.raises(Refused) as caught:
        step_register(STEP, run_of(images[0], images[1]))
    assert caught.value.refusal.reason == "blank_image"


def test_voxels_that_were_not_measured_do_not_mislead() -> None:
    moving = head(1)
    moving[:, :6] = np.nan
    made = step_register(STEP, run_of(head(0), moving))
    away = made.grid.positions_lps(np.array([20.0, 24.0, 22.0])) - GRID.positions_lps(
        np.array([20.0, 24.0, 22.0])
    )
    assert np.linalg.norm(away) < 1.5
    assert np.isnan(made.arrays(Crew(1))[0][:, :6]).all()

"""The steps that nnU-Net's preprocessing needs: stored axes, its mask, its crop, single slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes

from models.runtime.running import NothingFound
from models.runtime.tiling import tile
from tests.builders.linear_networks import CREW, ORIENT, Linear, ran

STORED = {**ORIENT, "axes": "kji"}
CROP = {
    "do": "crop",
    "in": "head",
    "around": {"nonzero": "head"},
    "margin": {"voxels": 0},
    "out": "part",
}


def normalised(**by: Any) -> dict[str, Any]:
    return {"do": "normalise", "in": "head", "by": by, "out": "even"}


def filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = binary_fill_holes(mask)
    assert found is not None
    return found.astype(np.bool_)


@pytest.fixture
def body() -> NDArray[np.float32]:
    """A block of noise in zeros, with a hole of zeros, negative values and a stray voxel."""
    values = np.zeros((9, 11, 14), np.float32)
    values[2:7, 3:9, 4:12] = np.random.default_rng(0).normal(50.0, 30.0, (5, 6, 8))
    values[4, 5:7, 7:9] = 0.0
    values[1, 3, 4] = -3.0
    return values


def test_a_scan_stays_as_it_was_stored(body: NDArray[np.float32]) -> None:
    (found,) = ran(body, [], STORED).image("head").arrays(CREW)
    assert np.array_equal(found, body)


def test_stored_axes_are_exchanged_in_the_order_of_the_letters(body: NDArray[np.float32]) -> None:
    image = ran(body, [], {**ORIENT, "axes": "jki"}).image("head")
    assert np.array_equal(image.arrays(CREW)[0], body.transpose(1, 0, 2))
    assert image.grid.spacing_mm == (1.0, 1.0, 1.0)


def test_the_box_holds_all_that_is_not_zero_and_nothing_else(body: NDArray[np.float32]) -> None:
    image = ran(body, [], STORED, CROP).image("part")
    assert np.array_equal(image.arrays(CREW)[0], body[1:7, 3:9, 4:12])


def test_what_was_not_measured_is_no_part_of_the_box(body: NDArray[np.float32]) -> None:
    body[0] = np.nan
    body[:, 10] = np.nan
    image = ran(body, [], STORED, CROP).image("part")
    assert image.grid.shape == (6, 6, 8)


def test_nothing_but_zeros_ends_the_plan() -> None:
    with pytest.raises(NothingFound):
        ran(np.zeros((5, 6, 7), np.int16), [], STORED, CROP)


def test_a_hole_counts_in_the_filled_mask_and_what_is_outside_stays_zero(
    body: NDArray[np.float32],
) -> None:
    found = ran(body, [], STORED, normalised(kind="zscore", over="filled")).image("even")
    mask = filled(body != 0)
    assert mask[4, 5, 7]
    inside = body[mask].astype(np.float64)
    wanted = np.zeros_like(body)
    wanted[mask] = (inside - inside.mean()) / inside.std()
    np.testing.assert_allclose(found.arrays(CREW)[0], wanted, atol=1e-5)


def test_the_mask_is_what_any_channel_holds(body: NDArray[np.float32]) -> None:
    """The second channel is zero where the first is half: it is changed there all the same."""
    half = {"do": "normalise", "in": "head", "by": {"kind": "factor", "factor": 1.0}, "out": "one"}
    clipped = {**half, "by": {"kind": "window", "low": 50.0, "high": 200.0, "to": [0.0, 1.0]}}
    stack = {"do": "stack", "in": "one", "and": ["two"], "out": "both"}
    scaled = {**normalised(kind="zscore", over="filled"), "in": "both"}
    run = ran(body, [], STORED, half, {**clipped, "out": "two"}, stack, scaled)
    second = np.clip((body - 50.0) / 150.0, 0.0, 1.0)
    mask = filled(body != 0)
    inside = second[mask].astype(np.float64)
    found = run.image("even").arrays(CREW)[1]
    np.testing.assert_allclose(found[mask], (inside - inside.mean()) / inside.std(), atol=1e-5)
    assert not found[~mask].any()


def test_a_factor_multiplies_and_leaves_what_was_not_measured_at_zero(
    body: NDArray[np.float32],
) -> None:
    body[3, 4, 5] = np.nan
    (found,) = (
        ran(body, [], STORED, normalised(kind="factor", factor=0.5)).image("even").arrays(CREW)
    )
    assert np.array_equal(found, np.nan_to_num(body) * np.float32(0.5))


def test_whole_numbers_are_those_towards_zero_and_what_was_not_measured_stays_so() -> None:
    values = np.array([[[-1.75, -0.5, 0.5, 1.75, np.nan]]], np.float32)
    (found,) = ran(values, [], STORED, normalised(kind="truncate")).image("even").arrays(CREW)
    np.testing.assert_array_equal(found, [[[-1.0, 0.0, 0.0, 1.0, np.nan]]])


def test_a_spacing_of_null_leaves_an_axis_as_it_is(body: NDArray[np.float32]) -> None:
    resample = {
        "do": "resample",
        "in": "head",
        "onto": {"spacing_mm": [None, 0.5, 2.0]},
        "order": "linear",
        "centres": "half-pixel",
        "out": "fine",
    }
    image = ran(body, [], STORED, resample).image("fine")
    assert image.grid.shape == (9, 22, 7)
    alone = {**resample, "onto": {"spacing_mm": [1.0, 0.5, 2.0]}}
    other = ran(body, [], STORED, alone).image("fine")
    assert np.array_equal(image.arrays(CREW)[0], other.arrays(CREW)[0])


def test_a_network_of_planes_sees_each_plane_once(body: NDArray[np.float32]) -> None:
    assert tile((9, 11, 14), (1, 8, 8), 0.5, "nnunet").starts[0] == tuple(range(9))
    network = Linear("one", (1.0, -1.0), (0.0, 0.0), shape=(1, 11, 14))
    infer = {
        "do": "infer",
        "in": "even",
        "members": ["one"],
        "tiling": {"kind": "tiles", "starts": "nnunet", "step": 0.5, "weight": "gaussian-nnunet"},
        "activation": "none",
        "out": "scores",
    }
    decide = {
        "do": "decide",
        "in": "scores",
        "rule": {"kind": "argmax", "segments": [1]},
        "out": "found",
    }
    ran(body, [network], STORED, normalised(kind="factor", factor=1.0), infer, decide)
    assert np.array_equal(np.concatenate([seen[0, 0] for seen in network.seen]), body)

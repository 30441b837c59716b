"""Largest component and holes, in place, in any memory order that is contiguous."""

from __future__ import annotations

import numpy as np

from models.runtime.components import fill_holes, foreground_box, keep_largest_component


def shell() -> np.ndarray:
    """An uneven box with a hole, so that a turned answer cannot look right."""
    mask = np.zeros((9, 12, 15), np.uint8)
    mask[1:7, 2:10, 3:13] = 1
    mask[3:5, 4:6, 5:11] = 0
    return mask


def test_a_hole_is_filled_where_it_is() -> None:
    mask = shell()
    fill_holes(mask)
    filled = np.zeros_like(mask)
    filled[1:7, 2:10, 3:13] = 1
    assert np.array_equal(mask, filled)


def test_a_dent_stays_open() -> None:
    mask = shell()
    mask[3:5, 4:6, 11:] = 0
    before = mask.copy()
    fill_holes(mask)
    assert np.array_equal(mask, before)


def test_only_the_largest_component_stays() -> None:
    mask = shell()
    largest = mask.copy()
    mask[8, 11, 14] = mask[8, 0, 0] = 1
    keep_largest_component(mask, 26)
    assert np.array_equal(mask, largest)


def test_diagonal_neighbours_join_by_26_and_not_by_6() -> None:
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[1, 1, 2] = 1
    joined, apart = mask.copy(), mask.copy()
    keep_largest_component(joined, 26)
    keep_largest_component(apart, 6)
    assert joined.sum() == 3
    assert apart.sum() == 2


def test_the_box_holds_all_foreground_and_no_more() -> None:
    assert foreground_box(shell()) == (slice(1, 7), slice(2, 10), slice(3, 13))
    assert foreground_box(np.zeros((2, 3, 4), np.uint8)) is None

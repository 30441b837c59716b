"""Dice and differing voxels."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluate import dice, differing_voxels


def test_dice_of_half_overlap() -> None:
    first = np.array([1, 1, 0, 0], np.uint8)
    assert dice(first, np.array([0, 1, 1, 0])) == 0.5
    assert dice(first, first) == 1.0
    assert dice(first, 1 - first) == 0.0


def test_two_empty_masks_agree() -> None:
    empty = np.zeros((2, 2))
    assert dice(empty, empty) == 1.0


def test_any_nonzero_value_is_foreground() -> None:
    assert differing_voxels(np.array([0, 3, 7]), np.array([0, 1, 0])) == 1


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        dice(np.zeros((2, 2)), np.zeros((4,)))

"""Outlines of the key slice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.reporting.kinds.report.regions import key_slice, outline


def drawn(*lines: str) -> NDArray[np.bool_]:
    """A mask from a drawing."""
    return np.array([[letter == "#" for letter in line] for line in lines])


def area(points: NDArray[np.float64]) -> float:
    """The enclosed area, by the shoelace formula."""
    x, y = points[:, 0], points[:, 1]
    return abs(float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())) / 2


def test_one_pixel_is_its_four_corners() -> None:
    points = outline(drawn("...", ".#.", "..."))
    assert {tuple(point) for point in points} == {(1, 1), (2, 1), (2, 2), (1, 2)}
    assert len(points) == 5


def test_coordinates_are_column_then_row() -> None:
    points = outline(drawn("...#", "...#"))
    assert points[:, 0].tolist() == pytest.approx([3, 4, 4, 3, 3])
    assert points[:, 1].max() == 2


def test_the_largest_part_is_outlined_and_its_holes_are_not() -> None:
    points = outline(drawn("####.#", "#..#..", "#..#.#", "####.."))
    assert area(points) == 16


def test_parts_that_touch_at_a_corner_stay_apart() -> None:
    points = outline(drawn("##..", "##..", "..##", "..#."))
    assert area(points) == 4


def test_outline_runs_along_the_edge_of_the_image() -> None:
    points = outline(np.ones((3, 5), bool))
    assert area(points) == 15
    assert len(points) == 5


def test_key_slice_shows_most() -> None:
    assert key_slice(np.array([0, 4, 9, 9, 1])) == 2

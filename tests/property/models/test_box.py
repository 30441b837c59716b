"""The box around what the coarse network saw equals deepbet's, voxel for voxel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.manifest.plan.crop import Margin
from models.runtime.components import keep_largest_component
from models.runtime.grid import Box, Grid, Shape
from models.runtime.segments import Segments
from models.runtime.steps.crop import box_around as box_in

bet = pytest.importorskip("deepbet.bet", reason="needs the package deepbet as the oracle")

GRID = 64
SIDES = st.tuples(st.integers(0, GRID - 1), st.integers(1, GRID))
SHAPES = st.tuples(*[st.integers(20, 400)] * 3)


def seen(sides: tuple[tuple[int, int], ...]) -> np.ndarray:
    mask = np.zeros((GRID, GRID, GRID), np.uint8)
    mask[tuple(slice(start, start + length) for start, length in sides)] = 1
    return mask


def box_around(mask: np.ndarray, shape: Shape) -> Box | None:
    """As brain extraction's plan has it: the largest component, its planes, a share more."""
    keep_largest_component(mask, 26)
    found = Segments.of(Grid((GRID, GRID, GRID), np.eye(4)), mask)
    return box_in(found, Grid(shape, np.eye(4)), 0.02, Margin(share=0.1))


@given(st.tuples(SIDES, SIDES, SIDES), SHAPES)
def test_the_box_equals_deepbets(
    sides: tuple[tuple[int, int], ...], shape: tuple[int, int, int]
) -> None:
    mask = seen(sides)
    extraction = object.__new__(bet.BrainExtraction)
    tensor = torch.from_numpy(mask.astype(np.float32))
    try:
        expected = extraction.get_bbox_with_margin(tensor, shape, 0.1)
    except AssertionError:
        expected = None
    found = box_around(mask, shape)
    if expected is None or any(side.stop <= side.start for side in expected):
        assert found is None
    else:
        assert [(side.start, side.stop) for side in found or ()] == [
            (side.start, side.stop) for side in expected
        ]


def test_only_the_largest_component_spans_the_box() -> None:
    mask = seen(((10, 30), (10, 30), (10, 30)))
    alone = box_around(mask.copy(), (64, 64, 64))
    mask[60:64, 60:64, 60:64] = 1
    assert box_around(mask, (64, 64, 64)) == alone

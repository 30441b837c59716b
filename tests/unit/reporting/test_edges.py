"""Edges that a segment reaches are told as directions of the patient."""

from __future__ import annotations

import numpy as np
import pytest

from services.reporting.analysis.judging import reached_edges
from tests.builders.series import AXIAL, CORONAL, SAGITTAL, affine_of

SHAPE = (6, 7, 8)
# Voxels (k, j, i) at the middle of each face, in the order first and last of k, j, i.
FACES = [(0, 3, 4), (5, 3, 4), (2, 0, 4), (2, 6, 4), (2, 3, 0), (2, 3, 7)]
DIRECTIONS = {
    "axial": (AXIAL, ["feet", "head", "front", "back", "right", "left"]),
    "sagittal": (SAGITTAL, ["right", "left", "head", "feet", "front", "back"]),
    "coronal": (CORONAL, ["front", "back", "head", "feet", "right", "left"]),
}


@pytest.mark.parametrize("orientation", DIRECTIONS)
@pytest.mark.parametrize("face", range(6))
def test_each_face_has_its_direction(orientation: str, face: int) -> None:
    directions, names = DIRECTIONS[orientation]
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[FACES[face]] = 1
    assert reached_edges(labels, 1, affine_of(directions)) == [names[face]]


def test_a_segment_within_the_images_reaches_none_though_another_does() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    labels[0] = 2
    assert reached_edges(labels, 1, affine_of()) == []
    assert len(reached_edges(labels, 2, affine_of())) == 5

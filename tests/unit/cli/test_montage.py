"""The picture shows the overlay where it is, the right way up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.cli.demo.montage import Overlay, draw_montage
from services.imaging import Volume

_COLOUR = (255, 40, 40)


def _affine(orientation: str) -> np.ndarray:
    """[k, j, i] to LPS for axial slices or sagittal ones, 2 mm."""
    columns = {
        "axial": [(2, 0, 0), (0, 2, 0), (0, 0, 2)],
        "sagittal": [(0, 2, 0), (0, 0, -2), (2, 0, 0)],
        "flipped": [(-2, 0, 0), (0, -2, 0), (0, 0, -2)],
    }[orientation]
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    return affine


def _in_slices(world: np.ndarray, orientation: str) -> np.ndarray:
    """The volume [x, y, z] (LPS) as [k, j, i] slices of that orientation."""
    if orientation == "axial":
        return world.transpose(2, 1, 0)
    if orientation == "sagittal":
        return world.transpose(0, 2, 1)[:, ::-1, :]
    return world[::-1, ::-1, ::-1].transpose(2, 1, 0)


@pytest.mark.parametrize("orientation", ["axial", "sagittal", "flipped"])
def test_overlay_in_the_left_front_top_is_drawn_there(tmp_path: Path, orientation: str) -> None:
    world = np.zeros((40, 50, 60), np.float32)
    world[5:35, 5:45, 5:55] = 100.0
    mask = np.zeros(world.shape, bool)
    mask[25:33, 8:16, 40:52] = True  # x to the left, y to posterior, z to the head
    pixels = np.ascontiguousarray(_in_slices(world, orientation))
    overlay = Overlay("Part", _COLOUR, np.ascontiguousarray(_in_slices(mask, orientation)))
    file = tmp_path / "montage.png"
    draw_montage(Volume(pixels, _affine(orientation)), [overlay], "Part 1 mL", ["model 1"], file)
    picture = np.asarray(Image.open(file).convert("RGB")).astype(int)
    drawn = (picture == _COLOUR).all(axis=2)
    tile, top, left = 236, 84, 96
    axial = drawn[top : top + 230, left : left + 230]
    coronal = drawn[top + tile : top + tile + 230, left : left + 230]
    sagittal = drawn[top + 2 * tile : top + 2 * tile + 230, left : left + 230]
    # axial: the patient's left is on the reader's right, anterior is up
    assert _centre(axial)[1] > 115 > _centre(axial)[0]
    # coronal: left on the right, the head is up
    assert _centre(coronal)[1] > 115 > _centre(coronal)[0]
    # sagittal: anterior on the left, the head is up
    assert _centre(sagittal)[1] < 115
    assert _centre(sagittal)[0] < 115


def test_what_was_not_measured_is_drawn_dark(tmp_path: Path) -> None:
    values = np.full((30, 30, 30), 50.0, np.float32)
    values[10:20, 10:20, 10:20] = 100.0
    padding = np.zeros(values.shape, bool)
    padding[:, :, :5] = True
    pictures: list[np.ndarray] = []
    for unmeasured in (50.0, np.nan):
        values[padding] = unmeasured
        told = padding if np.isnan(unmeasured) else None
        volume = Volume(values.copy(), _affine("axial"), padding=told)
        file = tmp_path / f"{unmeasured}.png"
        draw_montage(volume, [], "Part 1 mL", ["model 1"], file)
        pictures.append(np.asarray(Image.open(file).convert("RGB")))
    assert np.array_equal(pictures[0], pictures[1])


def _centre(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    assert rows.size
    return float(rows.mean()), float(columns.mean())

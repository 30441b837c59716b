"""The picture: three planes, one row each, with the overlay as the PACS received it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from services.imaging import Volume

COLUMNS = 6
TILE = 230
_MARGIN = 16
_HEAD = 84
_LEFT = 96
_FILL = 0.28  # how much of the colour the inside of a segment shows
_BACKGROUND = (12, 14, 18)
_TEXT = (236, 239, 244)
_FAINT = (150, 158, 170)
# For each plane: the patient axis it is cut along, the axes that go right and down, and the
# letters at the left and right edge (radiological convention: the patient faces the reader).
_PLANES = (
    ("axial", 2, 0, 1, "R", "L"),
    ("coronal", 1, 0, 2, "R", "L"),
    ("sagittal", 0, 1, 2, "A", "P"),
)


@dataclass(frozen=True, slots=True)
class Overlay:
    """A segment to draw: bool [k, j, i] on the volume's grid, and its colour."""

    label: str
    colour: tuple[int, int, int]
    mask: npt.NDArray[np.bool_]


def draw_montage(
    volume: Volume, overlays: Sequence[Overlay], title: str, lines: Sequence[str], file: Path
) -> None:
    """Writes a PNG: rows axial, coronal, sagittal; slices spread over the segments' extent."""
    pixels = _canonical(_shown(volume), volume.affine)
    masks = [_canonical(overlay.mask, volume.affine) for overlay in overlays]
    spacing = _canonical_spacing(volume.affine)
    width = _LEFT + COLUMNS * (TILE + 6) + _MARGIN
    height = _HEAD + len(_PLANES) * (TILE + 6) + 40
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.text((_MARGIN, 12), title, font=ImageFont.load_default(24), fill=_TEXT)
    draw.text((_MARGIN, 46), "   ".join(lines), font=ImageFont.load_default(15), fill=_FAINT)
    low, high = np.percentile(pixels, (1.0, 99.7))
    grey = np.clip((pixels - low) / max(high - low, 1e-6), 0.0, 1.0)
    for row, plane in enumerate(_PLANES):
        top = _HEAD + row * (TILE + 6)
        name, axis = plane[0], plane[1]
        draw.text(
            (_MARGIN, top + TILE // 2 - 10), name, font=ImageFont.load_default(16), fill=_TEXT
        )
        for column, index in enumerate(_indices(masks, pixels.shape, axis)):
            tile = _tile(grey, masks, overlays, plane, index, spacing)
            canvas.paste(tile, (_LEFT + column * (TILE + 6), top))
    _legend(draw, overlays, height)
    file.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(file, optimize=True)


def _shown(volume: Volume) -> npt.NDArray[np.float32]:
    """The values, with the darkest one where nothing was measured."""
    values = volume.values()
    unmeasured = volume.padding
    return values if unmeasured is None else np.where(unmeasured, np.nanmin(values), values)


def _canonical(array: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """[k, j, i] to [x, y, z] (LPS: to the left, to posterior, to the head), not resampled."""
    axes, flips = _axes(affine)
    turned = array.transpose(2 - axes[0], 2 - axes[1], 2 - axes[2])
    return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def _axes(affine: npt.NDArray[np.float64]) -> tuple[list[int], list[bool]]:
    direction = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    axes: list[int] = []
    for world in range(3):
        order = np.argsort(-np.abs(direction[world]))
        axes.append(next(int(axis) for axis in order if int(axis) not in axes))
    return axes, [bool(direction[world, axis] < 0) for world, axis in enumerate(axes)]


def _canonical_spacing(affine: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    axes, _ = _axes(affine)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return float(lengths[axes[0]]), float(lengths[axes[1]]), float(lengths[axes[2]])


def _indices(masks: Sequence[npt.NDArray[Any]], shape: tuple[int, ...], axis: int) -> list[int]:
    others = tuple(a for a in range(3) if a != axis)
    occupied = [np.flatnonzero(mask.any(axis=others)) for mask in masks]
    found = np.concatenate(occupied) if occupied else np.array([], int)
    first, last = (int(found.min()), int(found.max())) if found.size else (0, shape[axis] - 1)
    margin = (last - first) * 0.06
    return [round(v) for v in np.linspace(first + margin, last - margin, COLUMNS)]


def _tile(
    grey: npt.NDArray[Any],
    masks: Sequence[npt.NDArray[Any]],
    overlays: Sequence[Overlay],
    plane: tuple[str, int, int, int, str, str],
    index: int,
    spacing: tuple[float, float, float],
) -> Image.Image:
    _, axis, across, down, left, right = plane
    picture = np.repeat((_cut(grey, axis, index, down)[..., None] * 255), 3, axis=2)
    size = (picture.shape[1] * spacing[across], picture.shape[0] * spacing[down])
    scale = TILE / max(size)
    target = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    image = Image.fromarray(picture.astype(np.uint8)).resize(target, Image.Resampling.BICUBIC)
    shown = np.asarray(image).astype(np.float32)
    for mask, overlay in zip(masks, overlays, strict=True):
        cut = Image.fromarray((_cut(mask, axis, index, down) * 255).astype(np.uint8))
        inside = np.asarray(cut.resize(target, Image.Resampling.BILINEAR)) >= 128
        shown[inside] = shown[inside] * (1 - _FILL) + np.array(overlay.colour) * _FILL
        shown[_edge(inside)] = overlay.colour
    tile = Image.new("RGB", (TILE, TILE), (0, 0, 0))
    tile.paste(
        Image.fromarray(shown.astype(np.uint8)), ((TILE - target[0]) // 2, (TILE - target[1]) // 2)
    )
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(13)
    draw.text((5, TILE // 2 - 8), left, font=font, fill=_FAINT)
    draw.text((TILE - 14, TILE // 2 - 8), right, font=font, fill=_FAINT)
    return tile


def _cut(array: npt.NDArray[Any], axis: int, index: int, down: int) -> npt.NDArray[Any]:
    """A slice with its first remaining patient axis to the right and the other one down."""
    picture = np.take(array, index, axis=axis).T
    return picture[::-1] if down == 2 else picture  # the head is up


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    core = inside.copy()
    core[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    core[[0, -1], :] = core[:, [0, -1]] = False
    return inside & ~core


def _legend(draw: ImageDraw.ImageDraw, overlays: Sequence[Overlay], height: int) -> None:
    x = _LEFT
    font = ImageFont.load_default(15)
    for overlay in overlays:
        draw.rectangle((x, height - 29, x + 16, height - 13), fill=overlay.colour)
        draw.text((x + 24, height - 30), overlay.label, font=font, fill=_TEXT)
        x += 44 + int(draw.textlength(overlay.label, font=font))
    note = "AI result, not verified"
    draw.text((x + 12, height - 30), note, font=font, fill=_FAINT)

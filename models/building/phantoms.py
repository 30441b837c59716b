"""Made volumes that show what a model segments, for comparing builds where no scan may be had.

They are made anew each time, the same bits: analytic shapes and seeded noise. They show whether a
built network computes what the trained one does, and nothing of how well it segments.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReferenceVolume", "phantom"]

_Mm = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ReferenceVolume:
    """A volume that builds are compared on.

    `pixels`: float32 [k, j, i]; `affine_lps`: float64 [4, 4], (i, j, k, 1) to LPS mm; `sha256`: of
    the file, or of the pixels; empty where nobody asks.
    """

    pixels: NDArray[np.float32]
    affine_lps: NDArray[np.float64]
    sha256: str = ""


def phantom(name: str) -> ReferenceVolume:
    """Return a made volume by its name; KeyError when there is none."""
    pixels = _MADE[name]()
    return ReferenceVolume(pixels, np.eye(4), hashlib.sha256(pixels.tobytes()).hexdigest())


def _head_ct_lesions() -> NDArray[np.float32]:
    """A block of 28 x 88 x 88 mm of a head: skull, brain, a ventricle, and lesions.

    Haemorrhages of 62 to 68 HU: one with a dark rim in the tissue, one along the skull, one in the
    ventricle. Whole numbers of HU, as a scanner has them.
    """
    z, y, x = np.meshgrid(
        np.arange(28.0) - 14, np.arange(88.0) - 44, np.arange(88.0) - 44, indexing="ij"
    )

    def inside(centre: _Mm, radii: _Mm) -> NDArray[np.bool_]:
        away = np.zeros(z.shape)
        for axis, middle, radius in zip((z, y, x), centre, radii, strict=True):
            away += ((axis - middle) / radius) ** 2
        return away <= 1.0

    hu = np.full(z.shape, -1000.0)
    hu[inside((0, 0, 0), (60, 44, 40))] = 40.0
    hu[inside((0, 0, 0), (57, 41, 37))] = 900.0
    brain = inside((0, 0, 0), (52, 36, 32))
    hu[brain] = 34.0
    hu[inside((0, -8, 10), (18, 14, 6))] = 5.0
    hu[inside((0, -8, 10), (10, 8, 5))] = 65.0
    hu[inside((-2, 12, -13), (13, 14, 13))] = 20.0
    hu[inside((-2, 12, -13), (9, 9, 8))] = 68.0
    hu[brain & ~inside((0, 4, 3), (52, 36, 32)) & (x < 0) & (y < 0)] = 62.0
    noise = np.random.default_rng(0).normal(0.0, 3.0, hu.shape)
    return np.round(np.clip(hu + noise, -1024, 3071)).astype(np.float32)


def _blobs() -> NDArray[np.float32]:
    """A block of 40 x 64 x 64 mm: a body in nothing (0), and balls in it, darker and brighter.

    For models of which nobody knows what they look for.
    """
    places = np.stack(
        np.meshgrid(np.arange(40.0), np.arange(64.0), np.arange(64.0), indexing="ij"), axis=-1
    )
    random = np.random.default_rng(1)
    values = np.zeros(places.shape[:3])
    body = (((places - [20, 32, 32]) / [19, 29, 27]) ** 2).sum(axis=-1) <= 1.0
    values[body] = 60.0
    for value in (-90.0, 120.0, 200.0, 300.0, -30.0, 450.0, 90.0, 160.0):
        centre, radii = random.uniform(8, [32, 56, 56]), random.uniform(4, 11, 3)
        values[body & ((((places - centre) / radii) ** 2).sum(axis=-1) <= 1.0)] = value
    noise = random.normal(0.0, 6.0, values.shape)
    return np.round(np.where(body, values + noise, 0.0)).astype(np.float32)


def _brain_mr_glioma() -> NDArray[np.float32]:
    """A brain without its skull, 44 x 84 x 76 mm, with a tumour of rings, bright as on FLAIR.

    Nothing is around it: 0, as after brain extraction.
    """
    z, y, x = np.meshgrid(
        np.arange(44.0) - 22, np.arange(84.0) - 42, np.arange(76.0) - 38, indexing="ij"
    )

    def inside(radii: _Mm, centre: _Mm = (0, 0, 0)) -> NDArray[np.bool_]:
        away = np.zeros(z.shape)
        for axis, middle, radius in zip((z, y, x), centre, radii, strict=True):
            away += ((axis - middle) / radius) ** 2
        return away <= 1.0

    grey = np.where(inside((21, 40, 36)), 300.0, 0.0)
    grey[inside((18, 34, 30))] = 260.0
    grey[inside((10, 14, 5), (0, 4, -14))] = 90.0
    for radius, value in ((15, 480.0), (10, 620.0), (5, 380.0)):
        grey[inside((0.9 * radius, radius, radius), (1, -4, 14))] = value
    noise = np.random.default_rng(0).normal(0.0, 12.0, grey.shape)
    return np.round(np.where(grey > 0, np.clip(grey + noise, 1, 4000), 0.0)).astype(np.float32)


_MADE = {
    "head-ct-lesions": _head_ct_lesions,
    "brain-mr-glioma": _brain_mr_glioma,
    "blobs": _blobs,
}

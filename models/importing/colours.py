"""Colours of segments that nobody chose: far apart, and the same each time."""

from __future__ import annotations

import colorsys
from typing import Final

__all__ = ["cielab_of", "colour_cielab"]

# The golden ratio's turn: however many there are, no two lie close.
_TURN: Final = 0.6180339887498949
_SATURATION, _VALUE = 0.65, 0.9
# sRGB to XYZ for the white of D65 (IEC 61966-2-1), and that white.
_XYZ: Final = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
_WHITE: Final = (0.95047, 1.0, 1.08883)


def colour_cielab(place: int) -> tuple[int, int, int]:
    """Return a colour for the segment at a place, scaled as in PS3.3 C.10.7.1.1."""
    return cielab_of(colorsys.hsv_to_rgb((0.03 + place * _TURN) % 1.0, _SATURATION, _VALUE))


def cielab_of(rgb: tuple[float, float, float]) -> tuple[int, int, int]:
    """Return a colour of sRGB (each 0 to 1) as CIELab, scaled as in PS3.3 C.10.7.1.1."""
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in rgb]
    x, y, z = (
        _bent(sum(share * one for share, one in zip(row, linear, strict=True)) / white)
        for row, white in zip(_XYZ, _WHITE, strict=True)
    )
    lightness, a, b = 116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)
    return (
        round(lightness / 100.0 * 65535.0),
        round((a + 128.0) / 255.0 * 65535.0),
        round((b + 128.0) / 255.0 * 65535.0),
    )


def _bent(share: float) -> float:
    return share ** (1 / 3) if share > 216 / 24389 else (24389 / 27 * share + 16) / 116

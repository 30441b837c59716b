"""nnU-Net's resampling: in one go, or plane by plane where the planes lie far apart.

Its `resample_data_or_seg` (nnunetv2 2.8.1): in the planes like scikit-image's `resize`, across
them by half-pixel centres at an order of its own, usually the nearest plane.
"""

from __future__ import annotations

from typing import Any, Final

from models.runtime.crew import Crew
from models.runtime.interpolation import Kind
from models.runtime.sampling import Shape, samplings
from models.runtime.separable import resample

__all__ = ["resample_as_nnunet", "separate_axis"]

# nnU-Net's ANISO_THRESHOLD.
_ANISOTROPIC: Final = 3.0
Spacing = tuple[float, float, float]


def separate_axis(spacing_mm: Spacing, new_spacing_mm: Spacing) -> int | None:
    """Return the axis across planes that are resampled each by itself; None where there is none.

    The present spacing decides if it is anisotropic, else the new one; two equally wide axes make
    none.
    """
    for spacing in (spacing_mm, new_spacing_mm):
        if max(spacing) / min(spacing) > _ANISOTROPIC:
            widest = [axis for axis in range(3) if spacing[axis] == max(spacing)]
            return widest[0] if len(widest) == 1 else None
    return None


def resample_as_nnunet(
    array: Any,
    shape: Shape,
    spacing_mm: Spacing,
    new_spacing_mm: Spacing,
    crew: Crew,
    kind: Kind = "cubic",
    kind_across: Kind = "nearest",
) -> Any:
    """Bring [a0, a1, a2] to a shape, as nnU-Net's default does with data; returns float32.

    Args:
        array: finite values.
        shape: what is wanted.
        spacing_mm: the array's, in array order.
        new_spacing_mm: the result's, from which the shape was made.
        crew: shares the planes.
        kind: order 0, 1, 3 as nearest, linear, cubic.
        kind_across: the same across planes that lie far apart.
    """
    axes = samplings(_shape_of(array), shape, "half-pixel")
    across = separate_axis(spacing_mm, new_spacing_mm)
    if across is None:
        return resample(array, axes, (kind, kind, kind), crew, clip="volume")
    kinds: list[Kind] = [kind, kind, kind]
    kinds[across] = kind_across
    return resample(
        array, axes, (kinds[0], kinds[1], kinds[2]), crew, clip="planes", planes_along=across
    )


def _shape_of(array: Any) -> Shape:
    first, second, third = (int(side) for side in array.shape)
    return first, second, third

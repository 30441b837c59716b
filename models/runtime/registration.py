"""How one image lies to another of the same patient: found by what they tell of each other.

Mutual information is raised from coarse to fine, on one thread and with a fixed seed, so that the
same images always give the same transform. How well two images agree is measured apart from that.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.grid import Grid

__all__ = ["Registration", "agreement", "register"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Positions are found to a fraction of a voxel: finer ones than this add time and no accuracy.
_FINEST_MM: Final = 2.0
_SAMPLES: Final = 60_000
_SEED: Final = 1
_LEVELS: Final = 32
_ITERATIONS: Final = 150
# Grey values beyond these quantiles are outliers: they would leave the others few levels.
_CLIPPED: Final = (0.001, 0.999)


@dataclass(frozen=True, slots=True)
class Registration:
    """Where an image belongs.

    `to_fixed`: float64 [4, 4], LPS millimetres of the moving image to those of the fixed one.
    `agreement`: see `agreement`, with the image there.
    """

    to_fixed: F64
    agreement: float


def register(
    fixed: F32, fixed_grid: Grid, moving: F32, moving_grid: Grid, by: Literal["rigid", "affine"]
) -> Registration:
    """Find the place of a moving image; both [a0, a1, a2], finite and with contrast.

    Costs about a hundred passes over samples of the fixed image, some seconds.
    """
    import SimpleITK

    with _one_thread(SimpleITK):
        on_fixed = _as_image(SimpleITK, fixed, fixed_grid)
        on_moving = _as_image(SimpleITK, moving, moving_grid)
        found = _best_start(SimpleITK, on_fixed, on_moving)
        _optimise(SimpleITK, on_fixed, on_moving, found)
        if by == "affine":
            rigid, found = found, SimpleITK.AffineTransform(3)
            found.SetMatrix(rigid.GetMatrix())
            found.SetTranslation(rigid.GetTranslation())
            found.SetCenter(rigid.GetCenter())
            _optimise(SimpleITK, on_fixed, on_moving, found)
        agreed = _agreement_at(SimpleITK, on_fixed, on_moving, found)
    return Registration(np.linalg.inv(_as_matrix(found)).astype(np.float64), agreed)


def agreement(one: F32, other: F32) -> float:
    """Return how much two images on one grid tell of each other, 0 (nothing) to 1 (all).

    Twice their mutual information over the sum of their entropies, by 32 grey levels each. What
    lies outside the other (NaN) has its lowest grey.
    """
    levels = [_levelled(values) for values in (one, other)]
    joint = np.bincount(levels[0] * _LEVELS + levels[1], minlength=_LEVELS * _LEVELS)
    shares = joint.reshape(_LEVELS, _LEVELS) / joint.sum()
    apart = _entropy(shares.sum(axis=0)) + _entropy(shares.sum(axis=1))
    return 0.0 if apart == 0.0 else 2.0 * (apart - _entropy(shares)) / apart


def _levelled(values: F32) -> NDArray[np.intp]:
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros(values.size, np.intp)
    low, high = np.quantile(known, _CLIPPED)
    scaled = (np.nan_to_num(values.ravel(), nan=low) - low) / max(high - low, 1e-12)
    return np.clip((scaled * _LEVELS).astype(np.intp), 0, _LEVELS - 1)


def _entropy(shares: F64) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


@contextmanager
def _one_thread(itk: Any) -> Generator[None]:
    """Have the library add up in one order; its parts take their threads from one setting."""
    before = itk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    itk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        itk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _as_image(itk: Any, values: F32, grid: Grid) -> Any:
    """Return the library's image, in the patient, of voxels of about `_FINEST_MM`."""
    columns = grid.affine_lps[:3, :3] / np.array(grid.spacing_mm)
    image = itk.GetImageFromArray(np.ascontiguousarray(values))
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetDirection(columns[:, ::-1].ravel().tolist())
    image.SetOrigin(grid.affine_lps[:3, 3].tolist())
    shrink = [
        max(min(round(_FINEST_MM / spacing), side // 8), 1)
        for spacing, side in zip(image.GetSpacing(), image.GetSize(), strict=True)
    ]
    if max(shrink) == 1:
        return image
    blur = [0.5 * spacing * step for spacing, step in zip(image.GetSpacing(), shrink, strict=True)]
    return itk.Shrink(itk.SmoothingRecursiveGaussian(image, blur), shrink)


def _best_start(itk: Any, fixed: Any, moving: Any) -> Any:
    """Return the best of three: where both say that they lie, middle on middle, mass on mass."""
    middle = itk.CenteredTransformInitializer(
        fixed, moving, itk.Euler3DTransform(), itk.CenteredTransformInitializerFilter.GEOMETRY
    )
    mass = itk.CenteredTransformInitializer(
        fixed, moving, itk.Euler3DTransform(), itk.CenteredTransformInitializerFilter.MOMENTS
    )
    as_said = itk.Euler3DTransform()
    as_said.SetCenter(itk.Euler3DTransform(middle).GetCenter())
    starts = [as_said, itk.Euler3DTransform(middle), itk.Euler3DTransform(mass)]
    return max(starts, key=lambda start: _agreement_at(itk, fixed, moving, start))


def _agreement_at(itk: Any, fixed: Any, moving: Any, transform: Any) -> float:
    there = itk.Resample(moving, fixed, transform, itk.sitkLinear, float("nan"))
    return agreement(itk.GetArrayFromImage(fixed), itk.GetArrayFromImage(there))


def _optimise(itk: Any, fixed: Any, moving: Any, transform: Any) -> None:
    """Raise mutual information from where a transform is; it is changed."""
    method = itk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_LEVELS)
    method.SetMetricSamplingStrategy(method.REGULAR)
    share = min(_SAMPLES / float(np.prod(fixed.GetSize())), 1.0)
    method.SetMetricSamplingPercentage(share, _SEED)
    method.SetInterpolator(itk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-3, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([2.0, 0.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(itk.Cast(fixed, itk.sitkFloat32), itk.Cast(moving, itk.sitkFloat32))


def _as_matrix(transform: Any) -> F64:
    """Return float64 [4, 4] of a transform with a centre."""
    linear = np.array(transform.GetMatrix(), np.float64).reshape(3, 3)
    centre = np.array(transform.GetCenter(), np.float64)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - linear @ centre
    return matrix

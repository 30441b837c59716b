"""An image onto the grid of another one, by where both lie in the patient."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.runtime.crew import Crew
from models.runtime.filling import fill_unmeasured
from models.runtime.grid import Grid
from models.runtime.images import Held, Image

__all__ = ["onto_grid"]

F32 = NDArray[np.float32]
# A voxel was measured where at least half of what it is made of was.
_HALF = 0.5
# Of places in voxels: affines are multiplied in double precision.
_DIGITS = 9


def onto_grid(image: Image, grid: Grid, order: Literal["nearest", "linear"], crew: Crew) -> Image:
    """Sample an image at the voxels of a grid, whatever their directions.

    What lies outside the image, beyond half a voxel from the outermost centres, was not measured:
    NaN. Where both grids are the same nothing is moved.
    """
    if image.grid.same_as(grid):
        return Image(grid, image.channels)
    return Image(
        grid,
        tuple(Held(_sampled(one, image.grid, grid, order, crew)) for one in image.arrays(crew)),
    )


def _sampled(
    values: F32, of: Grid, onto: Grid, order: Literal["nearest", "linear"], crew: Crew
) -> F32:
    unmeasured = ~np.isfinite(values)
    if not unmeasured.any():
        return _at_voxels(values, of, onto, order, np.nan)
    made = _at_voxels(fill_unmeasured(values, unmeasured, crew), of, onto, order, np.nan)
    missing = _at_voxels(unmeasured.astype(np.float32), of, onto, order, 1.0)
    made[missing > _HALF] = np.nan
    return made


def _at_voxels(
    values: F32, of: Grid, onto: Grid, order: Literal["nearest", "linear"], outside: float
) -> F32:
    """Sample finite values [a0, a1, a2]; the library goes along lines, the same on any threads."""
    import SimpleITK

    # What should be a whole number of voxels is one: beside nothing (0) nothing may come to be.
    relative = np.round(np.linalg.solve(of.affine_lps, onto.affine_lps), _DIGITS)
    if (relative == np.round(relative)).all():
        # Centres fall on centres, and a voxel keeps its value to the last bit.
        order = "nearest"
    # The library counts the fastest axis first, and both arrays lie at their own indices.
    turn: Any = np.eye(3)[::-1]
    transform = SimpleITK.AffineTransform(
        (turn @ relative[:3, :3] @ turn).ravel().tolist(), (turn @ relative[:3, 3]).tolist()
    )
    kinds = {"linear": SimpleITK.sitkLinear, "nearest": SimpleITK.sitkNearestNeighbor}
    made = SimpleITK.Resample(
        SimpleITK.GetImageFromArray(np.ascontiguousarray(values)),
        list(onto.shape[::-1]),
        transform,
        kinds[order],
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 1.0),
        np.eye(3).ravel().tolist(),
        outside,
        SimpleITK.sitkFloat32,
    )
    return SimpleITK.GetArrayFromImage(made)

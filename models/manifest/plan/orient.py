"""The step `orient`: axes permuted and flipped, nothing interpolated."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import StringConstraints, field_validator

from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import GridType, ImageType

__all__ = ["Axes", "Orient"]

# Where each array axis points, first axis first: right or left, anterior or posterior, superior
# or inferior, each direction once. Or the scan's own axes, each once: k across slices, j down the
# rows, i along them.
Axes = Annotated[str, StringConstraints(pattern=r"^([RLAPSI]{3}|[kji]{3})$")]
_DIRECTIONS = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2, "k": 3, "j": 4, "i": 5}


class Orient(Step):
    """Turn an image so that its array axes point most nearly to the letters of `axes`.

    `kji` leaves the scan as it was stored, as nnU-Net does; `jki` and the like exchange its axes.
    """

    do: Literal["orient"]
    axes: Axes

    @field_validator("axes")
    @classmethod
    def _each_direction_once(cls, axes: str) -> str:
        if len({_DIRECTIONS[letter] for letter in axes}) != 3:
            raise ValueError(f"{axes} names a direction twice; write one of each, as in RAS or kji")
        return axes

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        image = scope.image(self.in_)
        if image.grid != GridType(image.grid.role):
            raise PlanError(
                f"{self.in_} lies on {image.grid}, and only a scan as it was stored is oriented",
                f"Orient {image.grid.role}, before anything else is done to it.",
                ("in",),
            )
        grid = replace(image.grid, made_by=(*image.grid.made_by, f"orient {self.axes}"))
        return replace(image, grid=replace(grid, axes=self.axes, shape=None, spacing_mm=None))

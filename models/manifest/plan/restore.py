"""The step `restore`: labels and maps back to the slices of an input."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.manifest.base import Name
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import GridType, ImageType, LayersType, MapType, ScoresType

__all__ = ["Restore"]


class Restore(Step):
    """Undo every change of grid, the last first, back to the slices of the input `to`.

    Segments by the nearest voxel; scores and maps by `order`. What was cropped away is background.
    """

    do: Literal["restore"]
    to: Name
    order: Literal["nearest", "linear"] = "nearest"

    def check(self, scope: Scope) -> LayersType | MapType | ScoresType:
        """See `Step.check`."""
        value = scope.value(self.in_)
        if isinstance(value, ImageType):
            raise PlanError(
                f"{self.in_} is an image, and only what a model made returns", "Name that.", ("in",)
            )
        if isinstance(value, LayersType) and self.order != "nearest":
            raise PlanError(
                f"{self.in_} holds segments, which have no values between them",
                "Write order: nearest, or restore the scores and decide then.",
                ("order",),
            )
        if value.grid.role != self.to:
            raise PlanError(
                f"{self.in_} lies on a grid made from {value.grid.role}, not from {self.to}",
                f"Write to: {value.grid.role}.",
                ("to",),
            )
        return replace(value, grid=GridType(self.to))

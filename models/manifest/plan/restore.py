"""The step `restore`: segments back to the slices of an input."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.manifest.base import Name
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import GridType, LayersType

__all__ = ["Restore"]


class Restore(Step):
    """Undo every change of grid, the last first, back to the slices of the input `to`.

    By the nearest voxel. What was cropped away is background.
    """

    do: Literal["restore"]
    to: Name

    def check(self, scope: Scope) -> LayersType:
        """See `Step.check`."""
        layers = scope.layers(self.in_)
        if layers.grid.role != self.to:
            raise PlanError(
                f"{self.in_} lies on a grid made from {layers.grid.role}, not from {self.to}",
                f"Write to: {layers.grid.role}.",
                ("to",),
            )
        return replace(layers, grid=GridType(self.to))

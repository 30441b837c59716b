"""The step `restore`: segments back to the slices of an input."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.manifest.base import Name
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import GridType, LayersType, ScoresType

__all__ = ["Restore"]


class Restore(Step):
    """Undo every change of grid, the last first, back to the slices of the input `to`.

    Segments by the nearest voxel; scores are interpolated linearly, and decided on the slices, as
    nnU-Net does. `across: nearest`: along an axis that the scan was sampled in planes far apart
    (nnU-Net's anisotropic case) scores are taken from the nearest plane. What was cropped away is
    background.
    """

    do: Literal["restore"]
    to: Name
    across: Literal["linear", "nearest"] | None = None

    def check(self, scope: Scope) -> LayersType | ScoresType:
        """See `Step.check`."""
        value = scope.layers_or_scores(self.in_)
        if value.grid.role != self.to:
            raise PlanError(
                f"{self.in_} lies on a grid made from {value.grid.role}, not from {self.to}",
                f"Write to: {value.grid.role}.",
                ("to",),
            )
        if any(words.startswith("register ") for words in value.grid.made_by):
            raise PlanError(
                f"{self.in_} lies where {self.to} was moved to, not where its slices are",
                "Bring the image onto the grid of another one before it is segmented.",
                ("in",),
            )
        if self.across is not None and isinstance(value, LayersType):
            raise PlanError(
                "segments are restored by the nearest voxel along every axis",
                "Leave `across` out, or restore the scores.",
                ("across",),
            )
        if isinstance(value, ScoresType) and value.grid == GridType(self.to):
            raise PlanError(
                f"{self.in_} lies on the slices of {self.to} already", "Leave this out.", ("in",)
            )
        return replace(value, grid=GridType(self.to))

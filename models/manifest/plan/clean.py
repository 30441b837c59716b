"""The step `clean`: components and holes of a segment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.manifest.base import Part
from models.manifest.plan.decide import SegmentNumber
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import LayersType

__all__ = ["Clean", "FillHoles", "LargestComponent", "RemoveSmall"]


class LargestComponent(Part):
    """The largest component stays."""

    kind: Literal["largest-component"]
    connectivity: Literal[6, 18, 26]


class FillHoles(Part):
    """Background that the segment encloses (by faces, in 3D) becomes the segment."""

    kind: Literal["fill-holes"]


class RemoveSmall(Part):
    """Components smaller than `below_ml` go."""

    kind: Literal["remove-small"]
    connectivity: Literal[6, 18, 26]
    below_ml: Annotated[float, Field(gt=0.0)]


Operation = Annotated[LargestComponent | FillHoles | RemoveSmall, Field(discriminator="kind")]


class Clean(Step):
    """Apply an operation to one segment; what it removes becomes background."""

    do: Literal["clean"]
    segment: SegmentNumber
    by: Operation

    def check(self, scope: Scope) -> LayersType:
        """See `Step.check`."""
        layers = scope.layers(self.in_)
        if self.segment not in layers.segments:
            raise PlanError(
                f"{self.in_} has no segment {self.segment}",
                f"It has {', '.join(map(str, layers.segments))}.",
                ("segment",),
            )
        return layers

"""The step `clean`: components and holes of a segment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.manifest.base import Part
from models.manifest.plan.decide import SegmentNumber
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import LayersType

__all__ = ["Clean", "Close", "Drop", "FillHoles", "LargestComponent", "RemoveSmall"]


class LargestComponent(Part):
    """The largest component stays.

    `second_above`: and the second largest, where it has more than this share of its voxels.
    """

    kind: Literal["largest-component"]
    connectivity: Literal[6, 18, 26]
    second_above: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None


class FillHoles(Part):
    """Background that the segment encloses (by faces, in 3D) becomes the segment."""

    kind: Literal["fill-holes"]


class RemoveSmall(Part):
    """Components smaller than `below_ml` go; `alone_stays`: but not where there is one alone."""

    kind: Literal["remove-small"]
    connectivity: Literal[6, 18, 26]
    below_ml: Annotated[float, Field(gt=0.0)]
    alone_stays: bool = False


class Close(Part):
    """Gaps are closed: the segment is grown by its neighbours and shrunk again."""

    kind: Literal["close"]
    connectivity: Literal[6, 18, 26]


class Drop(Part):
    """The whole segment goes where all of it is smaller than `below_ml`."""

    kind: Literal["drop"]
    below_ml: Annotated[float, Field(gt=0.0)]


Operation = Annotated[
    LargestComponent | FillHoles | RemoveSmall | Close | Drop, Field(discriminator="kind")
]


class Clean(Step):
    """Apply an operation to one segment; what it removes becomes background.

    What it adds was background: other segments stay.
    """

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

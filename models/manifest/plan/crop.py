"""The step `crop`: the part of an image around what was found in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from models.manifest.base import Part
from models.manifest.plan.step import PlanError, Scope, Step, ValueName
from models.manifest.plan.values import GridType, ImageType

__all__ = ["Crop", "Margin", "Nonzero", "Where"]


class Margin(Part):
    """How far a box grows on each side: voxels, millimetres, or a share of its own size."""

    voxels: Annotated[int, Field(ge=0)] | None = None
    mm: Annotated[float, Field(ge=0.0)] | None = None
    share: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Margin:
        if sum(one is not None for one in (self.voxels, self.mm, self.share)) != 1:
            raise ValueError("exactly one of `voxels`, `mm` and `share` says how far a box grows")
        return self


class Where(Part):
    """What the box holds: an image's values above a limit, or segments that were found.

    `plane_share`: a plane counts whose share of found voxels exceeds it; 0 is the tight box.
    """

    of: ValueName
    above: float | None = None
    plane_share: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class Nonzero(Part):
    """What of an image is not zero in any of its channels (nnU-Net's crop)."""

    nonzero: ValueName


def _which(around: Any) -> str:
    named = "nonzero" in around if isinstance(around, dict) else isinstance(around, Nonzero)
    return "nonzero" if named else "found"


Around = Annotated[
    Annotated[Where, Tag("found")] | Annotated[Nonzero, Tag("nonzero")], Discriminator(_which)
]


class Crop(Step):
    """Cut an image to the box around `around`, grown by `margin` and clipped to the image.

    What is found may lie on a grid that was resampled from the image's: the box is then mapped by
    sizes. Where nothing is found the plan ends, and the result is empty; `otherwise: whole`: it
    goes on with the whole image.
    """

    do: Literal["crop"]
    around: Around
    margin: Margin
    otherwise: Literal["end", "whole"] = "end"

    def reads(self) -> tuple[str, ...]:
        """See `Step.reads`."""
        return (self.in_, self.found_in)

    @property
    def found_in(self) -> ValueName:
        """The value that says where the box lies."""
        return self.around.nonzero if isinstance(self.around, Nonzero) else self.around.of

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        image = scope.oriented(self.in_)
        by_segments = isinstance(self.around, Where) and self.around.above is None
        found = (
            scope.layers(self.found_in, "around")
            if by_segments
            else scope.oriented(self.found_in, "around")
        )
        if found.grid != image.grid and not _of_the_same_place(found.grid, image.grid):
            raise PlanError(
                f"{self.found_in} lies on {found.grid}, and {self.in_} on {image.grid}",
                "Crop by what lies on the image's own grid, or on one resampled from it with "
                "half-pixel centres.",
                ("around",),
            )
        how = (self.around.model_dump_json(), self.margin.model_dump_json(), self.otherwise)
        words = " ".join(("crop", *how))
        grid = replace(image.grid, made_by=(*image.grid.made_by, words), shape=None)
        return replace(image, grid=grid)


def _of_the_same_place(found: GridType, image: GridType) -> bool:
    """Whether a grid is another's, resampled so that the outer edges of both meet."""
    *before, last = found.made_by or ("",)
    return (
        found.role == image.role
        and tuple(before) == image.made_by
        and last.startswith("resample ")
        and last.endswith(" half-pixel")
    )

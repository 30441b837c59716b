"""The step `resample`: an image onto another grid over the same place."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.manifest.base import Part
from models.manifest.plan.step import PlanError, Scope, Step, ValueName
from models.manifest.plan.values import ImageType

__all__ = ["Centres", "Onto", "Order", "Resample"]

Order = Literal["nearest", "linear", "cubic"]
# Where the voxels of the new grid look in the old one (models.runtime.interpolation).
Centres = Literal["half-pixel", "aligned", "spacing"]
_Size = Annotated[int, Field(ge=1, le=4096)]
_Length = Annotated[float, Field(gt=0.0, le=100.0)]
Spacing = tuple[float, float, float]


class Onto(Part):
    """The grid that is wanted: so many voxels a side, voxels of a size in mm, or an image's.

    A size of null leaves an axis as it is (nnU-Net's 2d configurations).
    """

    shape: Annotated[tuple[_Size, _Size, _Size], Field(strict=False)] | None = None
    spacing_mm: (
        Annotated[tuple[_Length | None, _Length | None, _Length | None], Field(strict=False)] | None
    ) = None
    like: ValueName | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Onto:
        if sum(one is not None for one in (self.shape, self.spacing_mm, self.like)) != 1:
            raise ValueError("one of `shape`, `spacing_mm` and `like` says what grid is wanted")
        if self.spacing_mm == (None, None, None):
            raise ValueError("spacing_mm leaves every axis as it is")
        return self

    def spacing_beside(self, own: Spacing) -> Spacing | None:
        """Return the spacing that is wanted of a grid whose own is given; None where a shape is."""
        if self.spacing_mm is None:
            return None
        first, second, third = (
            one if asked is None else asked for asked, one in zip(self.spacing_mm, own, strict=True)
        )
        return first, second, third


class Resample(Step):
    """Bring an image onto a grid that covers the same place; edges are repeated outside it.

    `order`: nearest, linear, or cubic B-splines with prefilter. `centres` says where voxels look:
    `half-pixel` (edges of the volumes meet, as in scikit-image and PyTorch), `aligned` (centres of
    the first and last voxels meet, as scipy.ndimage.zoom), `spacing` (centres of the first voxels
    meet and steps are millimetres, as in SimpleITK and MONAI). `across`: as nnU-Net has it: where
    planes lie more than three times as far apart as voxels in them, each plane is resampled by
    itself and then by this order across them; values stay within those of the image, or of a
    plane.

    `onto.like`: the grid of another image, by where both lie in the patient, in one frame of
    reference. Voxels that lie outside the image were not measured there. `centres` is not said.
    """

    do: Literal["resample"]
    onto: Onto
    order: Order
    centres: Centres | None = None
    across: Order | None = None

    @model_validator(mode="after")
    def _steps_are_of_a_spacing(self) -> Resample:
        if (self.centres is None) != (self.onto.like is not None):
            raise ValueError(
                "`centres` says where voxels look; with `onto.like` they look where they lie"
            )
        if self.onto.like is not None and self.order == "cubic":
            raise ValueError("onto.like takes order: nearest or linear")
        if self.centres == "spacing" and self.onto.spacing_mm is None:
            raise ValueError("centres: spacing needs onto.spacing_mm")
        if self.across is not None and (
            self.centres != "half-pixel" or self.onto.spacing_mm is None or self.order == "nearest"
        ):
            raise ValueError(
                "across needs centres: half-pixel, onto.spacing_mm, and an order that interpolates"
            )
        return self

    def reads(self) -> tuple[str, ...]:
        """See `Step.reads`."""
        return (self.in_,) if self.onto.like is None else (self.in_, self.onto.like)

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        image = scope.oriented(self.in_)
        if self.onto.like is not None:
            return self._onto(image, scope.oriented(self.onto.like, "onto"))
        words = f"resample {self.onto.shape or self.onto.spacing_mm} {self.centres}"
        first, second, third = self.onto.spacing_mm or (None, None, None)
        known = first is not None and second is not None and third is not None
        grid = replace(
            image.grid,
            made_by=(*image.grid.made_by, words),
            shape=self.onto.shape,
            spacing_mm=(first, second, third) if known else None,
        )
        return replace(image, grid=grid)

    def _onto(self, image: ImageType, like: ImageType) -> ImageType:
        if image.grid.frame != like.grid.frame:
            raise PlanError(
                f"{self.in_} lies in the frame of reference of {image.grid.frame}, and "
                f"{self.onto.like} in that of {like.grid.frame}",
                f"Register it first, with roles.{image.grid.role}.align.by rigid or affine.",
                ("onto", "like"),
            )
        if image.grid == like.grid:
            raise PlanError(
                f"{self.in_} lies on the grid of {self.onto.like} already",
                "Leave this out.",
                ("onto", "like"),
            )
        return replace(image, grid=like.grid, filled=False)

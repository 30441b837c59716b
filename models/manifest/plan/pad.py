"""The step `pad`: voxels around an image, so that its sides suit a network."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import ImageType

__all__ = ["Pad"]

_Size = Annotated[int, Field(ge=1, le=4096)]


class Pad(Step):
    """Put voxels of one value around an image, as many before as behind, the odd one behind.

    Its sides grow to `at_least` voxels, or to the next multiple of `multiple_of`.
    """

    do: Literal["pad"]
    at_least: Annotated[tuple[_Size, _Size, _Size], Field(strict=False)] | None = None
    multiple_of: Annotated[tuple[_Size, _Size, _Size], Field(strict=False)] | None = None
    value: float

    @model_validator(mode="after")
    def _one_of_them(self) -> Pad:
        if (self.at_least is None) == (self.multiple_of is None):
            raise ValueError("either `at_least` or `multiple_of` says how far an image is padded")
        return self

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        image = scope.oriented(self.in_)
        shape = None if image.grid.shape is None else self.padded(image.grid.shape)
        if shape is not None and shape == image.grid.shape:
            raise PlanError(
                f"{self.in_} has {list(shape)} voxels already", "Leave this out.", ("in",)
            )
        words = f"pad {self.at_least or self.multiple_of}"
        grid = replace(image.grid, made_by=(*image.grid.made_by, words), shape=shape)
        return replace(image, grid=grid)

    def padded(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the sides that an image of such sides gets."""
        if self.at_least is not None:
            first, second, third = map(max, shape, self.at_least)
        else:
            steps = self.multiple_of or (1, 1, 1)
            first, second, third = (-(-side // n) * n for side, n in zip(shape, steps, strict=True))
        return first, second, third

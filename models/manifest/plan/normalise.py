"""The step `normalise`: the values that a network was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from models.manifest.base import Part
from models.manifest.plan.step import PlanError, Scope, Step, ValueName
from models.manifest.plan.values import ImageType

__all__ = [
    "Factor",
    "MinMax",
    "Normalise",
    "QuantileStandardise",
    "Quantiles",
    "Truncate",
    "Window",
    "ZScore",
]

_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Ends(Part):
    low: float
    high: float

    @model_validator(mode="after")
    def _not_empty(self) -> _Ends:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self


class Window(_Ends):
    """Clip to [low, high]; then map that to `to`, or subtract `mean` and divide by `std`.

    CT's scheme in nnU-Net is the second, with the numbers of its training set.
    """

    kind: Literal["window"]
    to: Annotated[tuple[float, float], Field(strict=False)] | None = None
    mean: float | None = None
    std: Annotated[float, Field(gt=0.0)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Window:
        standardised = self.mean is not None and self.std is not None
        if (self.to is not None) == standardised or (self.mean is None) != (self.std is None):
            raise ValueError("either `to`, or `mean` and `std` say what the window becomes")
        if self.to is not None and self.to[0] == self.to[1]:
            raise ValueError(f"to: {self.to[0]} and {self.to[1]} make one value of all")
        return self


class ZScore(Part):
    """Subtract the mean, divide by the deviation (`unbiased`: n - 1) of the values `over`.

    `nonzero`: values that are not zero are counted and changed, the others stay zero. `filled`: so
    are voxels that are not zero in any channel, and those that such enclose (nnU-Net's mask).
    `zeros`: values of zero, and what was not measured, become normal noise of a fixed seed.
    """

    kind: Literal["zscore"]
    over: Literal["all", "nonzero", "positive", "filled"]
    unbiased: bool = False
    zeros: Literal["noise"] | None = None

    @model_validator(mode="after")
    def _zeros_are_of_a_channel(self) -> ZScore:
        if self.zeros is not None and self.over == "filled":
            raise ValueError("`zeros` says what becomes of zeros; over: filled leaves them zero")
        return self


class MinMax(Part):
    """Map the smallest value to 0 and the largest to 1."""

    kind: Literal["minmax"]


class Factor(Part):
    """Multiply by `factor`; 1 leaves the values as they are. What was not measured becomes 0."""

    kind: Literal["factor"]
    factor: Annotated[float, Field(gt=0.0)]


class Truncate(Part):
    """Cut to whole numbers, towards zero, as a file of integers holds them (TotalSegmentator).

    What was not measured stays so.
    """

    kind: Literal["truncate"]


class Quantiles(Part):
    """Map the quantiles `low` and `high` to 0 and 1, and clip."""

    kind: Literal["quantiles"]
    low: _Fraction
    high: _Fraction

    @model_validator(mode="after")
    def _not_empty(self) -> Quantiles:
        return _in_order(self)


class QuantileStandardise(Part):
    """Map the quantiles of `of` to 0 and 1, clip, standardise, and map to `mean` and `std`.

    The deviation is the unbiased one. Voxels that were not measured (pixel padding) have no part
    in quantiles, mean and deviation, and become the window's low end, the model's background.
    """

    kind: Literal["quantile-standardise"]
    of: ValueName
    low: _Fraction
    high: _Fraction
    mean: float
    std: Annotated[float, Field(gt=0.0)]

    @model_validator(mode="after")
    def _not_empty(self) -> QuantileStandardise:
        return _in_order(self)


_Q = TypeVar("_Q", Quantiles, QuantileStandardise)


def _in_order(by: _Q) -> _Q:
    if by.low >= by.high:
        raise ValueError(f"the low quantile {by.low} is not below the high one {by.high}")
    return by


Scheme = Annotated[
    Window | ZScore | MinMax | Factor | Truncate | Quantiles | QuantileStandardise,
    Field(discriminator="kind"),
]


class Normalise(Step):
    """Scale each channel of an image by itself."""

    do: Literal["normalise"]
    by: Scheme

    def reads(self) -> tuple[str, ...]:
        """See `Step.reads`."""
        return (self.in_, self.by.of) if isinstance(self.by, QuantileStandardise) else (self.in_,)

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        image = scope.oriented(self.in_)
        if isinstance(self.by, QuantileStandardise):
            of = scope.oriented(self.by.of, "by")
            if of.channels != image.channels:
                raise PlanError(
                    f"{self.by.of} has {of.channels} channels, and {self.in_} {image.channels}",
                    "Take the quantiles of an image with the same channels.",
                    ("by", "of"),
                )
        return image if isinstance(self.by, Truncate) else replace(image, filled=True)

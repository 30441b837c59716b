"""What a manifest expects of a result, and what becomes of one that is otherwise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.manifest.base import Name, Part

__all__ = ["Disagreement", "Finding", "Plausibility"]

_SegmentNumber = Annotated[int, Field(ge=1, le=255)]
# The result leaves with a sentence that a reader has to see, or does not leave.
_Otherwise = Literal["flag", "withhold"]


class Plausibility(Part):
    """The range outside which a segment's volume is not believed."""

    kind: Literal["plausibility"]
    segment: _SegmentNumber
    min_ml: Annotated[float, Field(ge=0.0)]
    max_ml: Annotated[float, Field(gt=0.0)]
    otherwise: _Otherwise
    why: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _range_is_not_empty(self) -> Plausibility:
        if self.min_ml >= self.max_ml:
            raise ValueError(f"min_ml {self.min_ml} is not below max_ml {self.max_ml}")
        return self


class Disagreement(Part):
    """The number of an output above which the members of an ensemble do not agree enough.

    `of`: an output of kind values that `measure-uncertainty` makes, whose words the numbers are.
    """

    kind: Literal["disagreement"]
    of: Name
    number: Literal["disagreement", "entropy", "mutual_information"]
    segment: _SegmentNumber
    above: Annotated[float, Field(ge=0.0, lt=1.0)]
    otherwise: _Otherwise
    why: Annotated[str, Field(min_length=1)]


Finding = Annotated[Plausibility | Disagreement, Field(discriminator="kind")]

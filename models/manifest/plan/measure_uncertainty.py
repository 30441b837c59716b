"""The step `measure-uncertainty`: how far the members of an ensemble agree about what was found."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from models.manifest.base import Part
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import NumbersType, ScoresType

__all__ = ["Extremes", "Interval", "MeasureUncertainty", "VolumeQuantiles"]

_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# Of each segment, whatever members give.
_ALWAYS: Final = (
    "volume_ml",
    "volume_low_ml",
    "volume_high_ml",
    "members_finding",
    "disagreement",
)
_OF_PROBABILITIES: Final = ("entropy", "mutual_information")


class Extremes(Part):
    """From the smallest to the greatest of the members' volumes."""

    kind: Literal["extremes"]

    @property
    def words(self) -> str:
        """What the interval is, for a reader of a report."""
        return "the smallest and the greatest"


class VolumeQuantiles(Part):
    """Between two quantiles of the members' volumes, between two members by line."""

    kind: Literal["quantiles"]
    low: _Fraction
    high: _Fraction

    @model_validator(mode="after")
    def _not_empty(self) -> VolumeQuantiles:
        if self.low >= self.high:
            raise ValueError(f"the low quantile {self.low} is not below the high one {self.high}")
        return self

    @property
    def words(self) -> str:
        """What the interval is, for a reader of a report."""
        return f"percentiles {100 * self.low:g} and {100 * self.high:g}"


Interval = Annotated[Extremes | VolumeQuantiles, Field(discriminator="kind")]


class MeasureUncertainty(Step):
    """Measure how far the members that were merged agree about segments that were decided.

    Each member is decided by the rule that decided the whole, and cleaned and restored as it was.
    The numbers of each segment:

    - `volume_ml` of the whole, `volume_low_ml` and `volume_high_ml` of the members by `interval`,
      and `members_finding`, the members that have a voxel of it: counted where `in` lies;
    - `disagreement`: 1 less the mean Dice over all pairs of members, where two that find nothing
      agree; 0: all find the same, 1: no two share a voxel (Roy et al. 2019, NeuroImage 195:11-22);
    - `entropy` of the merged probabilities, and `mutual_information`, of it what comes from
      members that disagree: means over the segment as it was decided, each as a share of the
      most that there can be.
    """

    do: Literal["measure-uncertainty"]
    interval: Interval

    def check(self, scope: Scope) -> NumbersType:
        """See `Step.check`."""
        layers = scope.layers(self.in_)
        scores = layers.decided_from
        if scores is None:
            raise PlanError(
                f"{self.in_} was made of segments, and nothing tells members of them apart",
                "Measure what one `decide` makes of the members' scores.",
                ("in",),
            )
        if scores.members == 1:
            raise PlanError(
                f"{self.in_} comes from one member, and nobody disagrees with it",
                "Run several members, or leave this out.",
                ("in",),
            )
        names = (*_ALWAYS, *(_OF_PROBABILITIES if _are_probabilities(scores) else ()))
        return NumbersType(layers.grid, layers.segments, names)


def _are_probabilities(scores: ScoresType) -> bool:
    """Whether an entropy tells anything: of one class of a softmax it is always 0."""
    return scores.kind == "sigmoid" or (scores.kind == "softmax" and scores.classes > 1)

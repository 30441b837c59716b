"""The step `decide`: from scores to segments."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.manifest.base import Part
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import LayersType

__all__ = ["Above", "Argmax", "Decide", "Regions", "Threshold"]

SegmentNumber = Annotated[int, Field(ge=1, le=255)]


class Argmax(Part):
    """The class with the highest score; `segments` gives the segment of classes 1, 2, ...

    0 among them is background too. Of equal scores the first class counts.
    """

    kind: Literal["argmax"]
    segments: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=1, strict=False)
    ]

    @property
    def found(self) -> tuple[int, ...]:
        """The segments that it makes, in rising order."""
        return tuple(sorted(set(self.segments) - {0}))


class Threshold(Part):
    """`channel` > `at` becomes `segment`."""

    kind: Literal["threshold"]
    channel: Annotated[int, Field(ge=0)]
    at: Annotated[float, Field(ge=0.0, le=1.0)]
    segment: SegmentNumber

    @property
    def found(self) -> tuple[int, ...]:
        """The segment that it makes."""
        return (self.segment,)


class Regions(Part):
    """Each channel > `at` becomes its segment, in order: a later one overrides.

    For nested regions from the outer to the inner one (nnU-Net's regions_class_order).
    """

    kind: Literal["regions"]
    at: Annotated[float, Field(ge=0.0, le=1.0)]
    segments: Annotated[tuple[SegmentNumber, ...], Field(min_length=1, strict=False)]

    @property
    def found(self) -> tuple[int, ...]:
        """The segments that it makes, in rising order."""
        return tuple(sorted(self.segments))


class Above(Part):
    """Of an image: its one channel > `at` becomes `segment`."""

    kind: Literal["above"]
    at: float
    segment: SegmentNumber

    @property
    def found(self) -> tuple[int, ...]:
        """The segments that may be found."""
        return (self.segment,)


Rule = Annotated[Argmax | Threshold | Regions | Above, Field(discriminator="kind")]


class Decide(Step):
    """Make segments of scores, or of an image."""

    do: Literal["decide"]
    rule: Rule

    @model_validator(mode="after")
    def _segments_are_named_once(self) -> Decide:
        if isinstance(self.rule, Regions) and len(set(self.rule.segments)) != len(
            self.rule.segments
        ):
            raise ValueError("rule.segments names one twice")
        return self

    def check(self, scope: Scope) -> LayersType:
        """See `Step.check`."""
        rule = self.rule
        if isinstance(rule, Above):
            return self._of_image(rule, scope)
        scores = scope.scores(self.in_)
        if isinstance(rule, Threshold):
            if rule.channel >= scores.classes:
                raise PlanError(
                    f"channel {rule.channel} is beyond the {scores.classes} classes of {self.in_}",
                    f"Write 0 to {scores.classes - 1}.",
                    ("rule", "channel"),
                )
            return LayersType(scores.grid, rule.found, scores)
        wanted = scores.classes - (1 if isinstance(rule, Argmax) else 0)
        if len(rule.segments) != wanted:
            raise PlanError(
                f"{len(rule.segments)} segments are named for the {wanted} classes of {self.in_}",
                "Name one for each; the background of an argmax, class 0, is not named.",
                ("rule", "segments"),
            )
        return LayersType(scores.grid, rule.found, scores)

    def _of_image(self, rule: Above, scope: Scope) -> LayersType:
        image = scope.oriented(self.in_)
        if image.channels != 1:
            raise PlanError(
                f"{self.in_} has {image.channels} channels, and one is compared",
                "Name an image of one channel.",
                ("in",),
            )
        return LayersType(image.grid, rule.found)

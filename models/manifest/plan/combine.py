"""The step `combine`: what several members or part-models found, as one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from models.manifest.base import Part
from models.manifest.plan.decide import SegmentNumber
from models.manifest.plan.merge import ByConfidence, ByEntropy, Mean, Weighted, check_merge
from models.manifest.plan.step import JoiningStep, PlanError, Scope
from models.manifest.plan.values import GridType, LayersType, ScoresType

__all__ = [
    "Combine",
    "Inside",
    "Majority",
    "OfSegments",
    "Overlapping",
    "Parts",
    "Simple",
    "Staple",
    "Union",
]


class Majority(Part):
    """The segment that most members have at a voxel.

    `tie`: of equally many votes background, the lowest number, or that of the first member.
    """

    kind: Literal["majority"]
    tie: Literal["background", "lowest", "first-member"]


class Staple(Part):
    """STAPLE: the most probable truth, each member weighed by how well it agrees with it.

    Each segment against all others; where none reaches one half, background.
    """

    kind: Literal["staple"]


class Simple(Part):
    """SIMPLE: a vote whose weights are the members' Dice with the vote, for nested regions.

    `regions`: from the outer to the inner, each the numbers that make it; its first number is
    written, later regions over earlier ones. `drop_below`: members of less than this share of the
    greatest weight are left out.
    """

    kind: Literal["simple"]
    regions: Annotated[
        tuple[Annotated[tuple[SegmentNumber, ...], Field(min_length=1, strict=False)], ...],
        Field(min_length=1, strict=False),
    ]
    drop_below: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05


class Parts(Part):
    """Part-models that find different segments of one whole; which of two wins a voxel."""

    kind: Literal["parts"]
    wins: Literal["later", "earlier"]


class Union(Part):
    """What any of them holds, as `segment`."""

    kind: Literal["union"]
    segment: SegmentNumber


class Inside(Part):
    """Of `in`, what lies where each of the others holds something."""

    kind: Literal["inside"]


class Overlapping(Part):
    """Of `in`, the components of which at least `share` lies where each of the others is."""

    kind: Literal["overlapping"]
    connectivity: Literal[6, 18, 26]
    share: Annotated[float, Field(gt=0.0, le=1.0)]


Rule = Annotated[
    Majority
    | Staple
    | Simple
    | Parts
    | Union
    | Inside
    | Overlapping
    | Mean
    | Weighted
    | ByConfidence
    | ByEntropy,
    Field(discriminator="kind"),
]
OfSegments = Majority | Staple | Simple | Parts | Union | Inside | Overlapping


class Combine(JoiningStep):
    """Make one of `in` and each of `and`, which lie on one grid: of segments, or of scores.

    Scores are those of members with patches or views of their own, each with an `infer` of its own.
    """

    do: Literal["combine"]
    rule: Rule

    def check(self, scope: Scope) -> LayersType | ScoresType:
        """See `Step.check`."""
        if isinstance(self.rule, OfSegments):
            return self._of_segments(scope)
        first = scope.scores(self.in_)
        for place, name in enumerate(self.and_):
            scores = scope.scores(name, "and")
            if (scores.grid, scores.classes, scores.kind) != (
                first.grid,
                first.classes,
                first.kind,
            ):
                raise PlanError(
                    f"{name} has {scores.classes} classes by {scores.kind} on {scores.grid}, and "
                    f"{self.in_} {first.classes} by {first.kind} on {first.grid}",
                    "Combine scores of one kind.",
                    ("and", place),
                )
        if first.grid == GridType(first.grid.role):
            raise PlanError(
                f"{self.in_} was restored: its scores are made where they are decided",
                "Combine scores before they are restored, or decide each and combine the segments.",
                ("in",),
            )
        members = 1 + len(self.and_)
        if isinstance(self.rule, Mean) and self.rule.of == "logits":
            raise PlanError(
                "logits of several steps are merged, and nothing makes probabilities of them",
                "Merge logits in the step that runs the members, or write of: probabilities.",
                ("rule", "of"),
            )
        check_merge(self.rule, members, first.classes, first.kind, "rule")
        return replace(first, members=members)

    def _of_segments(self, scope: Scope) -> LayersType:
        first = scope.layers(self.in_)
        segments = set(first.segments)
        for place, name in enumerate(self.and_):
            layers = scope.layers(name, "and")
            if layers.grid != first.grid:
                raise PlanError(
                    f"{name} lies on {layers.grid}, and {self.in_} on {first.grid}",
                    "Restore them to one grid first.",
                    ("and", place),
                )
            shared = segments & set(layers.segments)
            if isinstance(self.rule, Parts) and shared:
                raise PlanError(
                    f"{name} finds segment {min(shared)} too, which an earlier part finds",
                    "Give each part's segments numbers of their own where they are decided.",
                    ("and", place),
                )
            segments |= set(layers.segments)
        if isinstance(self.rule, Union):
            return LayersType(first.grid, (self.rule.segment,))
        if isinstance(self.rule, Inside | Overlapping):
            return first
        if isinstance(self.rule, Simple):
            return LayersType(first.grid, self._regions(self.rule, segments))
        return LayersType(first.grid, tuple(sorted(segments)))

    def _regions(self, rule: Simple, segments: set[int]) -> tuple[int, ...]:
        for place, region in enumerate(rule.regions):
            missing = set(region) - segments
            if missing:
                raise PlanError(
                    f"no member finds segment {min(missing)}",
                    f"They find {', '.join(map(str, sorted(segments)))}.",
                    ("rule", "regions", place),
                )
        written = [region[0] for region in rule.regions]
        if len(set(written)) != len(written):
            raise PlanError(
                "two regions write one number", "Begin each with its own.", ("rule", "regions")
            )
        return tuple(sorted(written))

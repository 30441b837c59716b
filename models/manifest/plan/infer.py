"""The step `infer`: networks over an image, tile by tile, merged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from models.manifest.base import Name, Part
from models.manifest.plan.merge import AnyMerge, Mean, check_merge
from models.manifest.plan.step import PlanError, Scope, Step
from models.manifest.plan.values import ImageType, ScoresType

__all__ = ["Activation", "Empty", "Infer", "Tiles", "Tiling", "Whole"]

Activation = Literal["softmax", "sigmoid", "none"]
_Axis = Annotated[int, Field(ge=0, le=2)]
_Share = Annotated[float, Field(gt=0.0, le=1.0)]


class Whole(Part):
    """The image is the network's patch."""

    kind: Literal["whole"]


class Empty(Part):
    """Tiles of which no network is asked: they hold nothing.

    Every voxel that such a tile answers for is at most `at_most`, in every channel. It is taken
    for the class `as_class`, with probability 1.
    """

    at_most: float
    as_class: Annotated[int, Field(ge=0)] = 0


class Tiles(Part):
    """Patches that cover the image.

    `starts`: by which rule they lie: `nnunet` and `monai` after those packages' sliding windows,
    with `step` as the share of a patch between two; `edge-to-edge`: answers side by side, the last
    ones reaching over the end; `centred`: as MSNet's authors have it, a side that is shorter than
    an answer in its middle, answers side by side along a longer one, the last moved back to its
    end. `weight`: how a tile's answer counts where two overlap. `outside`: the value of what a tile
    sees beyond the image; noise: normal values of a fixed seed; None repeats its edge. `empty`:
    tiles that are left out; None asks the networks about each.
    """

    kind: Literal["tiles"]
    starts: Literal["nnunet", "monai", "edge-to-edge", "centred"]
    step: _Share = 1.0
    weight: Literal["constant", "gaussian-nnunet", "gaussian-monai"] = "constant"
    outside: float | Literal["noise"] | None = None
    empty: Empty | None = None

    @model_validator(mode="after")
    def _step_is_of_overlapping_tiles(self) -> Tiles:
        beside = self.starts in ("edge-to-edge", "centred")
        if beside and (self.step != 1.0 or self.weight != "constant"):
            raise ValueError("tiles side by side do not overlap: leave `step` and `weight` out")
        return self


Tiling = Annotated[Whole | Tiles, Field(discriminator="kind")]


class Infer(Step):
    """Run every member on the image and merge their scores; mirror passes of one are averaged.

    `activation` makes probabilities of a member's output, or of the mean of logits. `mirror`: array
    axes along which the image is also shown mirrored, in all combinations. `view`: the image's
    axes in the order in which the networks see them: [2, 0, 1] shows the last one as their first.
    """

    do: Literal["infer"]
    members: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)]
    tiling: Tiling
    activation: Activation
    mirror: Annotated[tuple[_Axis, ...], Field(strict=False)] = ()
    view: Annotated[tuple[_Axis, _Axis, _Axis], Field(strict=False)] = (0, 1, 2)
    merge: AnyMerge = Mean()

    @model_validator(mode="after")
    def _each_once(self) -> Infer:
        for name, many in (
            ("members", self.members),
            ("mirror", self.mirror),
            ("view", self.view),
        ):
            if len(set(many)) != len(many):
                raise ValueError(f"{name} names one twice")
        return self

    def check(self, scope: Scope) -> ScoresType:
        """See `Step.check`."""
        image = scope.oriented(self.in_)
        if not image.filled:
            raise PlanError(
                f"voxels of {self.in_} that were not measured have no value, and a network would "
                "make none of them",
                "Normalise it first; a wide window changes no value.",
                ("in",),
            )
        outputs: set[int] = set()
        looks: set[tuple[tuple[int, int, int], tuple[int, int, int]]] = set()
        for place, name in enumerate(self.members):
            if name not in scope.networks:
                raise PlanError(
                    f"there is no network {name}",
                    f"Known are {', '.join(scope.networks)}.",
                    ("members", place),
                )
            facts = scope.networks[name]
            self._fits(name, image, scope)
            outputs.add(facts.outputs)
            looks.add((facts.patch, facts.margin))
        if len(outputs) != 1:
            raise PlanError(
                f"the members make {sorted(outputs)} classes, and cannot be merged",
                "Run those of one number of classes in one step.",
                ("members",),
            )
        if len(looks) != 1:
            raise PlanError(
                "the members see patches of different sizes, and their tiles do not meet",
                "Give them one patch and one margin.",
                ("members",),
            )
        classes = outputs.pop()
        self._merges(classes)
        self._leaves_out(classes)
        return ScoresType(image.grid, classes, self.activation, len(self.members))

    def by_image_axes(self, sides: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return a network's sides, along its own axes, as they lie in the image."""
        turned = [0, 0, 0]
        for axis, side in zip(self.view, sides, strict=True):
            turned[axis] = side
        return turned[0], turned[1], turned[2]

    @property
    def merges_logits(self) -> bool:
        """Whether the activation comes behind the merging, and is not built into the networks."""
        return isinstance(self.merge, Mean) and self.merge.of == "logits"

    def _merges(self, classes: int) -> None:
        """Refuse a rule that does not fit the members, their number or what they give."""
        if self.merges_logits and self.activation == "none":
            raise PlanError(
                "logits are merged, and nothing makes probabilities of them",
                "Write activation: softmax or sigmoid; it is applied after the mean.",
                ("activation",),
            )
        check_merge(self.merge, len(self.members), classes, self.activation, "merge")

    def _leaves_out(self, classes: int) -> None:
        """Refuse empty tiles that could not be given a class."""
        empty = self.tiling.empty if isinstance(self.tiling, Tiles) else None
        if empty is None:
            return
        if self.activation != "softmax" or self.merges_logits:
            raise PlanError(
                "empty tiles are given a class with certainty, and these scores are no "
                "probabilities of classes that exclude each other",
                "Leave `empty` out, or write activation: softmax without merging logits.",
                ("tiling", "empty"),
            )
        if empty.as_class >= classes:
            raise PlanError(
                f"the members make {classes} classes, counted from 0, and empty tiles would be "
                f"class {empty.as_class}",
                "Name one of theirs.",
                ("tiling", "empty", "as_class"),
            )

    def _fits(self, name: str, image: ImageType, scope: Scope) -> None:
        facts = scope.networks[name]
        if facts.channels != image.channels:
            raise PlanError(
                f"network {name} takes {facts.channels} channels, and {self.in_} has "
                f"{image.channels}",
                "Stack the channels that it was trained on.",
                ("in",),
            )
        takes = self.by_image_axes(facts.patch)
        if isinstance(self.tiling, Whole) and image.grid.shape != takes:
            raise PlanError(
                f"network {name} takes {list(takes)} voxels at once, and {self.in_} has "
                f"{list(image.grid.shape) if image.grid.shape else 'what the scan has'}",
                "Resample to that shape, or tile.",
                ("tiling",),
            )
        if isinstance(self.tiling, Whole) and any(facts.margin):
            raise PlanError(
                f"the answer of network {name} is smaller than what it sees, by "
                f"{list(facts.margin)} voxels on each side",
                "Write tiling kind: tiles, which puts such answers side by side.",
                ("tiling",),
            )

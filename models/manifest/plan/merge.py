"""How the scores of several members become one, in the steps `infer` and `combine`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from models.manifest.base import Part
from models.manifest.plan.step import PlanError

__all__ = ["AnyMerge", "ByConfidence", "ByEntropy", "Mean", "Weighted", "check_merge"]

_Weight = Annotated[float, Field(ge=0.0)]


class Mean(Part):
    """The mean of logits, which the activation makes probabilities of afterwards (nnU-Net), or of
    probabilities."""

    kind: Literal["mean"] = "mean"
    of: Literal["logits", "probabilities"] = "probabilities"


class Weighted(Part):
    """The mean of probabilities with `weights`: one a member, or one a member and class."""

    kind: Literal["weighted"]
    weights: Annotated[
        tuple[_Weight | Annotated[tuple[_Weight, ...], Field(strict=False)], ...],
        Field(min_length=1, strict=False),
    ]


class ByConfidence(Part):
    """The mean of probabilities in which a member counts, voxel by voxel, as it is sure.

    `by`: its largest probability, the margin between its two largest, or of each region by itself
    how far from undecided. `power`: of that, as the weight.
    """

    kind: Literal["confidence"]
    by: Literal["largest", "margin", "region"] = "largest"
    power: Annotated[float, Field(gt=0.0)] = 1.0


class ByEntropy(Part):
    """The mean of probabilities in which a member counts the less, the more undecided it is.

    `weight`: 1 - H / log C, or exp(-H). `of`: the entropy over all classes, or of each region.
    """

    kind: Literal["entropy"]
    weight: Literal["linear", "exponential"] = "linear"
    of: Literal["classes", "regions"] = "classes"


AnyMerge = Annotated[Mean | Weighted | ByConfidence | ByEntropy, Field(discriminator="kind")]


def check_merge(merge: AnyMerge, members: int, classes: int, kind: str, field: str) -> None:
    """Refuse a rule that does not fit the members, their number or what they give.

    Args:
        merge: the rule.
        members: how many there are.
        classes: scores of a voxel.
        kind: the activation that made probabilities: softmax, sigmoid or none.
        field: the step's field that holds the rule.

    Raises:
        PlanError: it does not fit.
    """
    if isinstance(merge, Mean):
        return
    if members == 1:
        raise PlanError(f"one member is merged by {merge.kind}", "Leave the rule out.", (field,))
    if isinstance(merge, Weighted):
        _check_weights(merge, members, classes, field)
        return
    by_region = (isinstance(merge, ByConfidence) and merge.by == "region") or (
        isinstance(merge, ByEntropy) and merge.of == "regions"
    )
    if by_region != (kind == "sigmoid"):
        judged = "region by region" if by_region else "over all classes"
        raise PlanError(
            f"{merge.kind} is judged {judged}, and the activation is {kind}",
            "Judge region by region after a sigmoid, over all classes otherwise.",
            (field,),
        )
    if classes < 2 and not by_region:
        raise PlanError(
            "one class leaves nothing to be unsure about", "Merge by the mean.", (field,)
        )


def _check_weights(merge: Weighted, members: int, classes: int, field: str) -> None:
    rows = [row if isinstance(row, tuple) else (row,) for row in merge.weights]
    width = len(rows[0])
    if len(rows) != members or width not in (1, classes) or any(len(r) != width for r in rows):
        raise PlanError(
            f"the weights do not fit {members} members of {classes} classes",
            "Write one weight a member, or for each member a list with one a class.",
            (field, "weights"),
        )
    if any(sum(column) <= 0 for column in zip(*rows, strict=True)):
        raise PlanError("a class has no weight of any member", "Give it one.", (field, "weights"))

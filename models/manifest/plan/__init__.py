"""A model's plan: typed steps over named values, checked when a manifest is linted.

Here is what a step says and what it makes of which values; what it does to arrays is
`models.runtime.steps`. They are apart because the orchestrator reads manifests and has no use for
the tools of a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from models.manifest.alignment import frame_of
from models.manifest.plan.clean import Clean
from models.manifest.plan.combine import Combine
from models.manifest.plan.crop import Crop
from models.manifest.plan.decide import Decide
from models.manifest.plan.infer import Infer
from models.manifest.plan.measure_uncertainty import MeasureUncertainty
from models.manifest.plan.normalise import Normalise
from models.manifest.plan.orient import Orient
from models.manifest.plan.pad import Pad
from models.manifest.plan.register import Register
from models.manifest.plan.resample import Resample
from models.manifest.plan.restore import Restore
from models.manifest.plan.stack import Stack
from models.manifest.plan.step import NetworkFacts, PlanError, Scope, Step
from models.manifest.plan.values import (
    GridType,
    ImageType,
    LayersType,
    MapType,
    NumbersType,
    ScoresType,
    ValueType,
)
from models.manifest.roles import Align

__all__ = [
    "AnyStep",
    "CheckedPlan",
    "GridType",
    "ImageType",
    "LayersType",
    "MapType",
    "NetworkFacts",
    "NumbersType",
    "PlanError",
    "ScoresType",
    "Step",
    "ValueType",
    "check_plan",
]

AnyStep = Annotated[
    Clean
    | Combine
    | Crop
    | Decide
    | Infer
    | MeasureUncertainty
    | Normalise
    | Orient
    | Pad
    | Register
    | Resample
    | Restore
    | Stack,
    Field(discriminator="do"),
]


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """What a plan's steps make, step by step.

    Attributes:
        made: the type of what each step makes, in the plan's order.
        values: the type of every value that is there when the plan ends, by name.
    """

    made: tuple[ValueType, ...]
    values: Mapping[str, ValueType]


def check_plan(
    plan: tuple[Step, ...],
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    networks: Mapping[str, NetworkFacts],
    aligns: Mapping[str, Align] | None = None,
) -> CheckedPlan:
    """Follow the types of a plan's values.

    Args:
        plan: the steps, in order.
        inputs: the roles that are images.
        outputs: the values that become outputs.
        networks: of each network what the plan depends on.
        aligns: of each input that is brought onto another, how.

    Raises:
        PlanError: a step cannot work, or nothing reads what it makes; its path begins with the
            step's place. Of an input that nothing reads the path is empty.
    """
    ways = aligns or {}
    images = {role: ImageType(GridType(role, frame=frame_of(role, ways))) for role in inputs}
    scope = Scope(dict(images), networks, ways)
    made: list[ValueType] = []
    makers: dict[str, int] = {}
    for place, step in enumerate(plan):
        try:
            value = step.check(scope)
        except PlanError as error:
            raise PlanError(error.problem, error.remedy, (place, *error.path)) from error
        if step.out in scope.values:
            raise PlanError(
                f"there is a value {step.out} already",
                "Give one of them another name: a name means one value throughout a plan.",
                (place, "out"),
            )
        scope.values[step.out] = value
        makers[step.out] = place
        made.append(value)
    for name in scope.values:
        if name not in scope.read and name not in outputs:
            path = (makers[name], "out") if name in makers else ()
            raise PlanError(f"nothing reads {name}", "Leave it out, or use it.", path)
    return CheckedPlan(tuple(made), scope.values)

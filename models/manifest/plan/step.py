"""What every step of a plan has: names of values in and out, and a check of their types."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from pydantic import Field, StringConstraints

from models.manifest.base import Part
from models.manifest.plan.values import (
    ImageType,
    LayersType,
    MapType,
    NumbersType,
    ScoresType,
    ValueType,
)
from models.manifest.roles import Align

__all__ = ["JoiningStep", "NetworkFacts", "PlanError", "Scope", "Step", "ValueName"]

ValueName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*([_-][a-z0-9]+)*$")]
V = TypeVar("V", ImageType, LayersType, MapType, NumbersType, ScoresType)
_CALLED = {
    ImageType: "an image",
    ScoresType: "scores",
    LayersType: "layers of segments",
    MapType: "a map",
    NumbersType: "numbers",
}


class PlanError(ValueError):
    """A step that cannot work.

    Args:
        problem: what is wrong, one sentence without a full stop.
        remedy: what to do.
        path: the field, from the step on.
    """

    def __init__(self, problem: str, remedy: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.path = path


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """Of a described network, what the plan around it depends on."""

    channels: int
    patch: tuple[int, int, int]
    margin: tuple[int, int, int]
    outputs: int


@dataclass(slots=True)
class Scope:
    """The values that are known when a step is checked, by name, and the networks."""

    values: dict[str, ValueType]
    networks: Mapping[str, NetworkFacts]
    # Of each input that is brought onto another, how.
    aligns: Mapping[str, Align] = field(default_factory=dict[str, Align])
    # Values that a later step read.
    read: set[str] = field(default_factory=set[str])

    def image(self, name: str, field_: str = "in") -> ImageType:
        """Return the type of an image; PlanError where there is none of the name."""
        return self._of(ImageType, name, field_)

    def oriented(self, name: str, field_: str = "in") -> ImageType:
        """Return the type of an image whose axes are known; PlanError where there is none."""
        image = self.image(name, field_)
        if image.grid.axes is None:
            raise PlanError(
                f"{name} lies as the scan was stored, so that nobody knows which axis is which",
                "Orient it first; axes: kji says that it is wanted as it was stored.",
                (field_,),
            )
        return image

    def scores(self, name: str, field_: str = "in") -> ScoresType:
        """Return the type of scores; PlanError where there are none of the name."""
        return self._of(ScoresType, name, field_)

    def layers(self, name: str, field_: str = "in") -> LayersType:
        """Return the type of layers; PlanError where there are none of the name."""
        return self._of(LayersType, name, field_)

    def layers_or_scores(self, name: str, field_: str = "in") -> LayersType | ScoresType:
        """Return the type of layers or scores; PlanError where there are none of the name."""
        if isinstance(self.values.get(name), ScoresType):
            return self.scores(name, field_)
        return self.layers(name, field_)

    def value(self, name: str, field_: str = "in") -> ValueType:
        """Return the type of a value of any kind; PlanError where there is none of the name."""
        if name not in self.values:
            raise PlanError(
                f"there is no value {name} at this step",
                f"Known here are {', '.join(self.values) or 'none'}.",
                (field_,),
            )
        self.read.add(name)
        return self.values[name]

    def _of(self, kind: type[V], name: str, field_: str) -> V:
        read_before = name in self.read
        value = self.value(name, field_)
        if isinstance(value, ScoresType) and read_before:
            raise PlanError(
                f"the scores {name} are read by a step before, and are held nowhere",
                "Let one step read them.",
                (field_,),
            )
        if not isinstance(value, kind):
            raise PlanError(
                f"{name} is {_CALLED[type(value)]}, and {_CALLED[kind]} is wanted",
                "Name another value, or make one of it by a step before.",
                (field_,),
            )
        return value


class Step(Part, ABC):
    """One step of a plan: it reads `in` and makes `out`."""

    in_: Annotated[ValueName, Field(alias="in")]
    out: ValueName

    @abstractmethod
    def check(self, scope: Scope) -> ValueType:
        """Return the type of what the step makes; PlanError when it cannot work."""

    def reads(self) -> tuple[str, ...]:
        """Return the names of the values that the step reads."""
        return (self.in_,)


class JoiningStep(Step, ABC):
    """A step that makes one value of several of a kind: it reads `in` and each of `and`."""

    and_: Annotated[tuple[ValueName, ...], Field(alias="and", min_length=1, strict=False)]

    def reads(self) -> tuple[str, ...]:
        """See `Step.reads`."""
        return (self.in_, *self.and_)

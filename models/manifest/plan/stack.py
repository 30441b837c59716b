"""The step `stack`: several images of one grid as the channels of one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.manifest.plan.step import JoiningStep, PlanError, Scope
from models.manifest.plan.values import ImageType

__all__ = ["Stack"]


class Stack(JoiningStep):
    """Put `and` behind `in`, in this order, as further channels."""

    do: Literal["stack"]

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        first = scope.oriented(self.in_)
        channels, filled = first.channels, first.filled
        for place, name in enumerate(self.and_):
            image = scope.oriented(name, "and")
            if image.grid != first.grid:
                raise PlanError(
                    f"{name} lies on {image.grid}, and {self.in_} on {first.grid}",
                    "Bring them onto one grid first.",
                    ("and", place),
                )
            channels += image.channels
            filled = filled and image.filled
        return replace(first, channels=channels, filled=filled)

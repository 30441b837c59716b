"""The step `register`: an image moved to where it fits another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from models.manifest.plan.step import PlanError, Scope, Step, ValueName
from models.manifest.plan.values import ImageType

__all__ = ["Register"]


class Register(Step):
    """Find how an image lies to `to`, and say so of its grid; no voxel is interpolated.

    The role of `in` says by `align` to which role it is registered, in which way, and which
    agreement is too poor: the input is then refused.
    """

    do: Literal["register"]
    to: ValueName

    def reads(self) -> tuple[str, ...]:
        """See `Step.reads`."""
        return (self.in_, self.to)

    def check(self, scope: Scope) -> ImageType:
        """See `Step.check`."""
        moving, fixed = scope.oriented(self.in_), scope.oriented(self.to, "to")
        role = moving.grid.role
        align = scope.aligns.get(role)
        if align is None or align.by == "same-frame":
            raise PlanError(
                f"nothing says that {role} is registered",
                f"Write roles.{role}.align with by: rigid or affine, or leave this out.",
                ("in",),
            )
        if moving.grid.frame != role:
            raise PlanError(
                f"{self.in_} was registered by a step before", "Register it once.", ("in",)
            )
        if fixed.grid.role != align.to:
            raise PlanError(
                f"{role} is aligned to {align.to}, and {self.to} is an image of {fixed.grid.role}",
                f"Name an image of {align.to}.",
                ("to",),
            )
        for name, image, field in ((self.in_, moving, "in"), (self.to, fixed, "to")):
            if image.channels != 1:
                raise PlanError(
                    f"{name} has {image.channels} channels, and one is compared with one",
                    "Register before channels are stacked.",
                    (field,),
                )
        made_by = (*moving.grid.made_by, f"register to {fixed.grid}")
        return replace(moving, grid=replace(moving.grid, made_by=made_by, frame=fixed.grid.frame))

"""Of which values of a plan members are kept apart, because a later step asks each of them."""

from __future__ import annotations

from models.manifest.plan.clean import Clean
from models.manifest.plan.decide import Decide
from models.manifest.plan.measure_uncertainty import MeasureUncertainty
from models.manifest.plan.restore import Restore
from models.manifest.plan.step import Step

__all__ = ["kept_apart"]


def kept_apart(plan: tuple[Step, ...]) -> frozenset[str]:
    """Return the values, from members' scores on, that `measure-uncertainty` follows back."""
    names: set[str] = set()
    for step in reversed(plan):
        follows = isinstance(step, Clean | Decide | Restore) and step.out in names
        if follows or isinstance(step, MeasureUncertainty):
            names.add(step.in_)
    return frozenset(names)

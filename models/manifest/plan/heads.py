"""What of a plan is built into a network's graph, so that less crosses the device's edge."""

from __future__ import annotations

from dataclasses import dataclass

from models.manifest.plan.decide import Decide, Threshold
from models.manifest.plan.infer import Activation, Infer, Whole
from models.manifest.plan.step import Step

__all__ = ["Head", "head_of"]


@dataclass(frozen=True, slots=True)
class Head:
    """What a network's output becomes when it is built.

    Attributes:
        activation: makes probabilities of it; none where scores are merged before.
        threshold: the decision, where the step behind it is built in: one byte a voxel then
            leaves the network instead of a float a class.
    """

    activation: Activation
    threshold: Threshold | None


def head_of(plan: tuple[Step, ...], network: str, channels: int) -> Head:
    """Return the head of a network that one step of the plan runs; KeyError when none does.

    `channels`: of the network; the decision is built in where one image goes in alone.
    """
    for place, step in enumerate(plan):
        if isinstance(step, Infer) and network in step.members:
            inside = "none" if step.merges_logits else step.activation
            alone = channels == 1 and len(step.members) == 1
            return Head(inside, _decided(plan[place + 1 :], step) if alone else None)
    raise KeyError(network)


def _decided(after: tuple[Step, ...], step: Infer) -> Threshold | None:
    """Return the one threshold that alone reads the answer of one pass of one network."""
    turned = step.view != (0, 1, 2)
    if not isinstance(step.tiling, Whole) or step.mirror or turned or step.merges_logits:
        return None
    readers: list[Step] = []
    for later in after:
        if step.out in later.reads():
            readers.append(later)
    first = readers[0] if len(readers) == 1 else None
    if isinstance(first, Decide) and isinstance(first.rule, Threshold):
        return first.rule
    return None

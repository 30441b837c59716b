"""What a network answers with, built into its graph: scores, or one byte a voxel."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator

from models.manifest.base import Part

__all__ = ["Headed", "ScoringHead"]

_BITS = 8

Activation = Literal["softmax", "sigmoid", "none"]


class ScoringHead(Part):
    """The head of a network of raw scores [n, k, ...].

    Attributes:
        kind: `scores`: float32 [n, k, ...] after the activation; `argmax`: uint8 [n, ...], the
            first class of the highest score; `thresholds`: uint8 [n, ...] by `at`.
        activation: what makes scores of the output: over all classes, of each by itself, none.
        at: thresholds, one a class; a score above is positive.
        classes: for `thresholds`: the number that each class in turn writes where it is positive,
            later ones over earlier ones (nnU-Net's regions_class_order). Empty: class i sets bit
            i, so that classes may overlap; at most 8.
    """

    kind: Literal["scores", "argmax", "thresholds"]
    activation: Activation = "none"
    at: Annotated[tuple[float, ...], Field(max_length=255, strict=False)] = ()
    classes: Annotated[
        tuple[Annotated[int, Field(ge=1, le=255)], ...], Field(max_length=255, strict=False)
    ] = ()

    @model_validator(mode="after")
    def _consistent(self) -> ScoringHead:
        if (self.kind == "thresholds") != bool(self.at):
            raise ValueError("`at` belongs to thresholds, and they need it")
        if self.classes and len(self.classes) != len(self.at):
            raise ValueError(f"{len(self.classes)} classes and {len(self.at)} thresholds")
        if self.at and not self.classes and len(self.at) > _BITS:
            raise ValueError(f"{len(self.at)} classes do not fit into {_BITS} bits; order them")
        return self


class Headed(torch.nn.Module):
    """A network with its head: float32 [n, c, *patch] -> what the head says."""

    def __init__(self, network: torch.nn.Module, head: ScoringHead) -> None:
        super().__init__()
        self.network = network
        self._head = head

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """See the class."""
        # Under autocast the output is of low precision; what follows is not.
        scores = self.network(image).float()
        # Softmax keeps the order of the scores, and so does a sigmoid: the highest stays.
        if self._head.kind == "argmax":
            return _as_bytes(scores.argmax(dim=1))
        if self._head.activation == "softmax":
            scores = scores.softmax(dim=1)
        elif self._head.activation == "sigmoid":
            scores = scores.sigmoid()
        if self._head.kind == "scores":
            return scores
        return self._decided(scores)

    def _decided(self, scores: torch.Tensor) -> torch.Tensor:
        at = torch.tensor(self._head.at, device=scores.device)
        above = scores > at.view(-1, *[1] * (scores.ndim - 2))
        if not self._head.classes:
            bits = torch.tensor([float(1 << place) for place in range(len(self._head.at))])
            bits = bits.to(scores.device).view(-1, *[1] * (scores.ndim - 2))
            return _as_bytes((above.float() * bits).sum(dim=1))
        found = torch.zeros_like(scores[:, 0])
        for place, number in enumerate(self._head.classes):
            here = above[:, place].float()
            found = here * number + (1 - here) * found
        return _as_bytes(found)


def _as_bytes(numbers: torch.Tensor) -> torch.Tensor:
    # By way of float32, because TensorRT casts to uint8 from floating point only.
    return numbers.to(torch.float32).to(torch.uint8)

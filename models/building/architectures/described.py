"""What the registry knows of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field

from models.building.architectures.keys import KeyMap

__all__ = ["Architecture", "Count", "Counts", "Size"]

Count = Annotated[int, Field(ge=1, le=4096)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, max_length=64, strict=False)]
Size = Annotated[tuple[Count, Count, Count], Field(strict=False)]


def _as_they_are(_: Any) -> KeyMap:
    return KeyMap()


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network by its arguments.

    Attributes:
        arguments: their description (a `Part`): what is not in it is refused.
        build: makes the module of them, with weights of no meaning.
        keys: the names that the published files use, as a map to the module's.
    """

    arguments: type[Any]
    build: Callable[[Any], torch.nn.Module]
    keys: Callable[[Any], KeyMap] = _as_they_are

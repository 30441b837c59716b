"""What a run asks of a network, whatever device runs it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecidingNetwork", "Network", "ScoringNetwork"]

F32 = NDArray[np.float32]


class _Built(Protocol):
    """What every built network has."""

    @property
    def name(self) -> str:
        """The network's name in the manifest."""
        ...

    @property
    def target(self) -> str:
        """`cpu`, `tensorrt` or `torch`."""
        ...

    @property
    def precision(self) -> str:
        """The precision that the device confirmed: `f32`, `bf16` or `f16`."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """The size of a patch, voxels along each array axis."""
        ...

    def release(self) -> None:
        """Give memory that is held for the next run back to the system."""
        ...


@runtime_checkable
class DecidingNetwork(_Built, Protocol):
    """A network with the decision built in: an image in, the foreground of one class out.

    What crosses the device's edge is one byte per voxel instead of a float per class.
    """

    def image(self) -> F32:
        """Give the place, float32 [x, y, z], into which the next image is to be written."""
        ...

    def foreground(self) -> NDArray[np.uint8]:
        """Run once on what was written to `image()`: 0/1 uint8 [x, y, z].

        The answer may be the device's own memory: it holds until the next call, and its reader
        may change it.
        """
        ...


@runtime_checkable
class ScoringNetwork(_Built, Protocol):
    """A network that gives a score a class and voxel."""

    def scores(self, batch: F32) -> F32:
        """Run on patches float32 [n, c, *patch]; returns float32 [n, k, *(patch - 2 margin)].

        The answer may be the device's own memory: it holds until the next call.
        """
        ...


Network = DecidingNetwork | ScoringNetwork

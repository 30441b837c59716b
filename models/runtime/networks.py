"""What the pipeline asks of a network, whatever device runs it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Network"]


class Network(Protocol):
    """A built network: an image in, the foreground of one of its classes out.

    The threshold of the manifest's pipeline is part of the built network, so that what crosses
    the device's edge is one byte per voxel instead of a float per class.
    """

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
        """The size of input and output, [x, y, z]."""
        ...

    def image(self) -> NDArray[np.float32]:
        """Give the place, float32 [x, y, z], into which the next image is to be written."""
        ...

    def foreground(self) -> NDArray[np.uint8]:
        """Run once on what was written to `image()`: 0/1 uint8 [x, y, z].

        The answer may be the device's own memory: it holds until the next call, and its reader
        may change it.
        """
        ...

    def release(self) -> None:
        """Give memory that is held for the next run back to the system."""
        ...

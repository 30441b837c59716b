"""Errors of the build room.

BuildError                root (a ModelError)
  FetchError              a wheel, package or file could not be had, or is not the one pinned
  ArchitectureError       a network that cannot be built from its name and arguments
  WeightsError            a file of weights that cannot be read, or is not a network's
  ClassesError            a network that has another number of classes than its manifest says
  ParityError             a built network strays further from the trained one than allowed
  TargetMissingError      the tool or device for a target is not on this machine
"""

from __future__ import annotations

from models.manifest.errors import ModelError

__all__ = [
    "ArchitectureError",
    "BuildError",
    "ClassesError",
    "FetchError",
    "ParityError",
    "TargetMissingError",
    "WeightsError",
]


class BuildError(ModelError):
    """A build that cannot go on; the message names thing, value and remedy."""


class FetchError(BuildError):
    """Something published that could not be had or is not what was pinned."""


class ArchitectureError(BuildError):
    """A network that is not known, or arguments that it does not take."""


class WeightsError(BuildError):
    """A file of weights that cannot be read safely, or does not fit the network."""


class ClassesError(BuildError):
    """A network with another number of classes than was said; `found` is its own."""

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


class ParityError(BuildError):
    """A built network that fails the manifest's acceptance."""


class TargetMissingError(BuildError):
    """A target whose compiler or device is missing here."""

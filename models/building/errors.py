"""Errors of the build room.

BuildError                root (a ModelError)
  FetchError              a wheel or package could not be had, or is not the one pinned
  ClassesError            a network that has another number of classes than its manifest says
  ParityError             a built network strays further from the trained one than allowed
  TargetMissingError      the tool or device for a target is not on this machine
"""

from __future__ import annotations

from models.manifest.errors import ModelError

__all__ = ["BuildError", "ClassesError", "FetchError", "ParityError", "TargetMissingError"]


class BuildError(ModelError):
    """A build that cannot go on; the message names thing, value and remedy."""


class FetchError(BuildError):
    """Something from a package index that could not be had or is not what was pinned."""


class ClassesError(BuildError):
    """A network with another number of classes than was said; `found` is its own."""

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


class ParityError(BuildError):
    """A built network that fails the manifest's acceptance."""


class TargetMissingError(BuildError):
    """A target whose compiler or device is missing here."""

"""Errors of the runtime room.

PipelineError              root (a ModelError)
  NetworkUnavailableError  a network cannot be loaded as it was built
  RequestError             a request that does not fit the model (a fault of the caller)

What an image can legitimately be (blank, nothing found) is no error but an answer.
"""

from __future__ import annotations

from models.manifest.errors import ModelError

__all__ = ["NetworkUnavailableError", "PipelineError", "RequestError"]


class PipelineError(ModelError):
    """A pipeline that cannot go on; the message names thing, value and remedy."""


class NetworkUnavailableError(PipelineError):
    """A network that cannot be loaded, or not in the precision that was built and accepted."""


class RequestError(PipelineError):
    """A request that does not fit the model: wrong shape, missing role, unusable affine."""

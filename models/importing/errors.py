"""The error of the importers' room."""

from __future__ import annotations

from models.manifest.errors import ModelError

__all__ = ["NotImportableError"]


class NotImportableError(ModelError):
    """Files that are no such model, or a model that a plan cannot say.

    The message names what it is and a way on.
    """

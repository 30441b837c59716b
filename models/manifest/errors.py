"""Errors of the models' rooms.

ModelError                 root: anything the models' rooms refuse to go on with
  ManifestError            a manifest is unreadable or contradicts itself
  (models.building and models.runtime add their own below ModelError)
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ManifestError", "ModelError"]


class ModelError(Exception):
    """Root of every error raised in `models`; the message names thing, value and remedy."""


class ManifestError(ModelError):
    """A manifest that cannot be used.

    `file` (or what else the manifest was read from), `line` (1-based, None when the file itself is
    the trouble) and `field` (dotted path) say where; `remedy` says what to do.
    """

    def __init__(
        self,
        file: Path | str,
        problem: str,
        remedy: str,
        *,
        line: int | None = None,
        field: str = "",
    ) -> None:
        self.file = file
        self.line = line
        self.field = field
        self.problem = problem
        self.remedy = remedy
        place = str(file) if line is None else f"{file}:{line}"
        subject = f" {field}:" if field else ""
        super().__init__(f"{place}:{subject} {problem} {remedy}")

"""The root of this room's exceptions.

ReportingError
 |- JobError          a request does not fit its manifest, the store or the database
 `- ValidatorError    dciodvfy is not there or does not answer

What a job's labels can legitimately do wrong is a `Withholding`, a value: see `job`.
"""

from __future__ import annotations

from services.common.errors import AxialError


class ReportingError(AxialError):
    """Results cannot be made or delivered for a reason that is not the labels'."""


class JobError(ReportingError):
    """A request names a model, series, instance or object that is not there or does not fit."""


class ValidatorError(ReportingError):
    """The external validator cannot be run."""

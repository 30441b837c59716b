"""OrchestratorError and what can go wrong between a revision and its results.

OrchestratorError
 |- ModelUnavailable     the inference server or the model does not answer; retry helps
 |   `- ModelDied         the model's process has ended, and Triton calls it ready all the same
 |- InferenceFailed      the model broke off on this input
 |- ReportingUnavailable the reporting service does not answer; retry helps
 |- ReportingFailed      it answered that it cannot make these results
 `- DatabaseUnavailable  the database does not answer; retry helps
"""

from __future__ import annotations

from services.common.errors import AxialError


class OrchestratorError(AxialError):
    """Root of the orchestrator's exceptions."""


class ModelUnavailable(OrchestratorError):
    """The inference server does not answer or the model is not loaded."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class ModelDied(ModelUnavailable):
    """The model's process has ended; it has to be unloaded and loaded again."""


class InferenceFailed(OrchestratorError):
    """The model broke off while working on this input."""


class ReportingUnavailable(OrchestratorError):
    """The reporting service does not answer."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class ReportingFailed(OrchestratorError):
    """The reporting service answered that it cannot do what was asked."""


class DatabaseUnavailable(OrchestratorError):
    """The database does not answer, or is locked for longer than we wait."""

    def __init__(self) -> None:
        super().__init__("The database does not answer.", retryable=True)

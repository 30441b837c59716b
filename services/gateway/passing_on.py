"""Requests that the gateway passes on to the service that owns the matter."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import grpc
from axial.v1 import (
    intake_pb2,
    intake_pb2_grpc,
    orchestrator_pb2,
    orchestrator_pb2_grpc,
    reporting_pb2,
    reporting_pb2_grpc,
)

from services.common.rpc import open_channel
from services.common.settings import Settings
from services.common.trust import Credentials
from services.gateway.problems import GatewayError

DEADLINE_S = 10.0
_ASK_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Owners:
    """Connections to the services that act; they are opened lazily by gRPC itself."""

    def __init__(self, settings: Settings, credentials: Credentials) -> None:
        """Raises:
        TrustError: a file of the credentials is missing.
        """
        self._intake = intake_pb2_grpc.IntakeStub(
            open_channel(settings.listener.intake_address, credentials, "listener")
        )
        self._orchestrator = orchestrator_pb2_grpc.OrchestratorStub(
            open_channel(settings.orchestrator.address, credentials, "orchestrator")
        )
        self._reporting = reporting_pb2_grpc.ReportingStub(
            open_channel(settings.reporting.address, credentials, "reporting")
        )

    def complete_study(self, study_uid: str) -> intake_pb2.CompleteStudyResponse:
        """Freezes the study's next revision now."""
        request = intake_pb2.CompleteStudyRequest(study_uid=study_uid)
        with _problems("listener"):
            return self._intake.CompleteStudy(request, timeout=DEADLINE_S)

    def expect_study(
        self, study_uid: str, instances: int, series: Mapping[str, int]
    ) -> intake_pb2.ExpectStudyResponse:
        """Says what the study consists of."""
        request = intake_pb2.ExpectStudyRequest(
            study_uid=study_uid, instances=instances, series=series
        )
        with _problems("listener"):
            return self._intake.ExpectStudy(request, timeout=DEADLINE_S)

    def resolve_conflicts(self, uid: str, *, latest: bool) -> int:
        """Decides open conflicts of a study, a series or an instance; returns their number."""
        request = intake_pb2.ResolveConflictsRequest(uid=uid, latest=latest)
        with _problems("listener"):
            return self._intake.ResolveConflicts(request, timeout=DEADLINE_S).conflicts

    def retry_study(self, study_uid: str) -> int:
        """Puts the study's failed jobs back on the queue; returns their number."""
        request = orchestrator_pb2.RetryStudyRequest(study_uid=study_uid)
        with _problems("orchestrator"):
            return self._orchestrator.RetryStudy(request, timeout=DEADLINE_S).jobs

    def resend(self, request: reporting_pb2.ResendRequest) -> reporting_pb2.ResendResponse:
        """Puts deliveries back on their queue."""
        with _problems("reporting"):
            return self._reporting.Resend(request, timeout=DEADLINE_S)


@contextmanager
def _problems(service: str) -> Generator[None]:
    try:
        yield
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.NOT_FOUND:
            raise GatewayError(404, "not-found", str(error.details())) from error
        if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            raise GatewayError(422, "invalid-request", str(error.details())) from error
        if error.code() in _ASK_AGAIN:
            detail = f"The {service} does not answer. Try again when it runs."
            raise GatewayError(503, f"{service}-unavailable", detail) from error
        raise GatewayError(502, f"{service}-failed", str(error.details())) from error

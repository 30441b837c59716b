"""Calls to the reporting service."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType

import grpc
from axial.v1 import reporting_pb2, reporting_pb2_grpc

from services.common.rpc import current_metadata
from services.orchestrator.errors import ReportingFailed, ReportingUnavailable

MAKE_DEADLINE_S = 120.0
RELEASE_DEADLINE_S = 30.0
_TRANSIENT = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        # A server that dies in the middle of a call.
        grpc.StatusCode.INTERNAL,
    }
)


class ReportingClient:
    """A connection to the reporting service; a context manager that owns its channel."""

    def __init__(self, address: str, channel: grpc.Channel) -> None:
        self._address = address
        self._channel = channel
        self._stub = reporting_pb2_grpc.ReportingStub(self._channel)

    def __enter__(self) -> ReportingClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def make_results(
        self, request: reporting_pb2.MakeResultsRequest
    ) -> reporting_pb2.MakeResultsResponse:
        """Has a job's results made.

        Raises:
            ReportingUnavailable: the service does not answer; the same call may succeed.
            ReportingFailed: the service answered that it cannot make them.
        """
        with self._explaining():
            return self._stub.MakeResults(
                request, timeout=MAKE_DEADLINE_S, metadata=current_metadata()
            )

    def release(self, job_uid: str) -> int:
        """Puts a job's results on the delivery queues; returns the number of deliveries.

        Raises:
            ReportingUnavailable, ReportingFailed: as `make_results`.
        """
        request = reporting_pb2.ReleaseResultsRequest(job_uid=job_uid)
        with self._explaining():
            return self._stub.ReleaseResults(
                request, timeout=RELEASE_DEADLINE_S, metadata=current_metadata()
            ).deliveries

    def withdraw(self, job_uids: list[str]) -> int:
        """Removes superseded results from the queues; returns how many had not left yet.

        Raises:
            ReportingUnavailable, ReportingFailed: as `make_results`.
        """
        request = reporting_pb2.WithdrawResultsRequest(job_uids=job_uids)
        with self._explaining():
            return self._stub.WithdrawResults(
                request, timeout=RELEASE_DEADLINE_S, metadata=current_metadata()
            ).withdrawn

    @contextmanager
    def _explaining(self) -> Generator[None]:
        """Raises errors of a call as ours."""
        try:
            yield
        except grpc.RpcError as error:
            code = error.code()
            text = f"reporting at {self._address}: {code.name}: {error.details()}"
            if code in _TRANSIENT:
                raise ReportingUnavailable(text) from error
            raise ReportingFailed(text) from error

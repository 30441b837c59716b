"""The gRPC service `Reporting` and its component."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

import grpc
from axial.v1 import reporting_pb2, reporting_pb2_grpc
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from services.common.database import database_problems
from services.common.manifests import StoredManifests
from services.common.rpc import rpc_errors, serve_rpc, traceparent_of
from services.common.service import ServiceContext
from services.common.settings import Settings
from services.common.telemetry import get_logger, span
from services.common.telemetry.metrics import STAGE_SECONDS
from services.reporting.delivery import Deliveries, Wanted, open_deliveries, require_carried
from services.reporting.errors import JobError, ReportingError
from services.reporting.kinds.registry import KINDS
from services.reporting.messages import job_of, response_of
from services.reporting.objects.validator import dciodvfy_path
from services.reporting.results import ResultMaker
from services.reporting.warm_up import warm_up

# Locks that jobs share by their UID's hash: more than calls are served at once.
_LOCKS = 64

_log = get_logger("reporting")


class ReportingService(reporting_pb2_grpc.ReportingServicer):
    """Answers the calls; every call may be repeated."""

    def __init__(
        self, manifests: StoredManifests, maker: ResultMaker, deliveries: Deliveries
    ) -> None:
        self._manifests = manifests
        self._maker = maker
        self._deliveries = deliveries
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def MakeResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.MakeResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.MakeResultsResponse:
        with _call("make", context), self._alone(request.job_uid):
            job = job_of(request, self._manifests)
            made = self._maker.make(job)
        for stage, seconds in made.seconds.items():
            STAGE_SECONDS.labels(f"report.{stage}").observe(seconds)
        return response_of(job, made)

    def ReleaseResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.ReleaseResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.ReleaseResultsResponse:
        with _call("release", context):
            deliveries = self._deliveries.release(request.job_uid)
        return reporting_pb2.ReleaseResultsResponse(deliveries=deliveries)

    def WithdrawResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.WithdrawResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.WithdrawResultsResponse:
        with _call("withdraw", context):
            withdrawn = self._deliveries.withdraw(list(request.job_uids))
        return reporting_pb2.WithdrawResultsResponse(withdrawn=withdrawn)

    def Resend(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.ResendRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.ResendResponse:
        with _call("resend", context):
            wanted = Wanted(
                request.delivery_uid,
                request.destination,
                request.study_uid,
                request.sop_instance_uid,
            )
            try:
                again = self._deliveries.resend(wanted, delivered=request.delivered)
            except JobError as error:  # what a person named is not there
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return reporting_pb2.ResendResponse(
            deliveries=again.deliveries,
            delivered=again.delivered,
            superseded=again.superseded,
            held=again.held,
        )

    @contextmanager
    def _alone(self, job_uid: str) -> Generator[None]:
        """One call at a time for a job: a repeated call finds what the first one made."""
        with self._locks[hash(job_uid) % len(self._locks)]:
            yield


class Reporting:
    """The running service, as the health endpoint sees it."""

    def __init__(self, settings: Settings, deliveries: Deliveries, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._deliveries = deliveries

    def dead(self) -> str | None:
        """A sentence when the sender to a destination has ended for good; None while all live."""
        stopped = self._deliveries.problems()
        return stopped[0] if stopped else None

    def problems(self) -> list[str]:
        """What keeps reporting from being ready, in sentences; empty when it is ready."""
        problems = self._deliveries.problems() + database_problems(self._engine)
        if self._settings.reporting.check_with_dciodvfy and not dciodvfy_path().exists():
            problems.append("dciodvfy is not installed; no result can be checked.")
        return problems


@contextmanager
def open_reporting(context: ServiceContext) -> Generator[Reporting]:
    """Opens the service: deliveries first, then the calls that make and release results."""
    settings = context.settings
    maker = ResultMaker(context.engine, context.store, settings.reporting)
    KINDS.require_known(settings.reporting.destinations)
    require_carried(settings.reporting.destinations, KINDS)
    warm_up(settings.catalogue_dir)
    # Half of the grace period for an object under way; the rest for what ends after it.
    with open_deliveries(
        context.engine, context.store, settings.reporting, settings.grace_period_s / 2
    ) as deliveries:
        servicer = ReportingService(StoredManifests(context.store), maker, deliveries)
        with serve_rpc(
            settings.reporting.address,
            lambda server: reporting_pb2_grpc.add_ReportingServicer_to_server(servicer, server),
            context.credentials,
        ) as port:
            _log.info("reporting_listening", port=port)
            yield Reporting(settings, deliveries, context.engine)


@contextmanager
def _call(name: str, context: grpc.ServicerContext) -> Generator[None]:
    """A call: its span continues the caller's, and its errors become a status."""
    with (
        rpc_errors(context),
        _database_errors(),
        span(f"reporting.{name}", traceparent_of(context)),
    ):
        yield


@contextmanager
def _database_errors() -> Generator[None]:
    """A database that is away or busy may be back for the next attempt."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        _log.warning("database_unavailable", kind=type(error.orig).__name__)
        raise ReportingError("The database does not answer.", retryable=True) from error

"""The gRPC service `Reporting` and its component."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import grpc
from axial.v1 import reporting_pb2, reporting_pb2_grpc
from sqlalchemy import Engine
from sqlalchemy.exc import InterfaceError, OperationalError

from models.manifest import Manifest, ModelError, Precision, Target, load_manifest
from services.common.database import database_problems
from services.common.rpc import rpc_errors, serve_rpc, traceparent_of
from services.common.service import ServiceContext
from services.common.settings import Settings
from services.common.store import is_of_job
from services.common.telemetry import get_logger, span
from services.common.telemetry.metrics import STAGE_SECONDS
from services.reporting.delivery import Deliveries, Wanted, open_deliveries, require_carried
from services.reporting.errors import JobError, ReportingError
from services.reporting.job import Job
from services.reporting.kinds.registry import KINDS
from services.reporting.objects.validator import dciodvfy_path
from services.reporting.results import Made, ResultMaker
from services.reporting.warm_up import warm_up

# Locks that jobs share by their UID's hash: more than calls are served at once.
_LOCKS = 64

_log = get_logger("reporting")


class Catalogue:
    """The models' manifests, read again only when their file changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[int, Manifest]] = {}
        self._lock = threading.Lock()

    def manifest(self, name: str, version: str, digest: str) -> Manifest:
        """The manifest that a job was made with.

        Raises:
            JobError: there is none, or the catalogue holds another version or build of it: its
                segments, codes and ranges might not be those of the labels.
        """
        file = self._folder / name / "model.yaml"
        if "/" in name or name.startswith(".") or not file.is_file():
            raise JobError(f"There is no model '{name}' in the catalogue.")
        with self._lock:
            changed_at = file.stat().st_mtime_ns
            known = self._known.get(name)
            if known is None or known[0] != changed_at:
                try:
                    known = (changed_at, load_manifest(file))
                except ModelError as error:
                    raise JobError(str(error)) from error
                self._known[name] = known
        manifest = known[1]
        if manifest.version != version or digest not in _digests(manifest):
            raise JobError(
                f"The catalogue holds {name} {manifest.version}, the labels come from {version} "
                f"(digest {digest[:12]}). Build and load the catalogue's model."
            )
        return manifest


class ReportingService(reporting_pb2_grpc.ReportingServicer):
    """Answers the calls; every one may be repeated."""

    def __init__(self, catalogue: Catalogue, maker: ResultMaker, deliveries: Deliveries) -> None:
        self._catalogue = catalogue
        self._maker = maker
        self._deliveries = deliveries
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def MakeResults(  # noqa: N802 - the name in the contract
        self, request: reporting_pb2.MakeResultsRequest, context: grpc.ServicerContext
    ) -> reporting_pb2.MakeResultsResponse:
        with _call("make", context), self._alone(request.job_uid):
            made = self._maker.make(self._job(request))
        for stage, seconds in made.seconds.items():
            STAGE_SECONDS.labels(f"report.{stage}").observe(seconds)
        return _response(made)

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

    def _job(self, request: reporting_pb2.MakeResultsRequest) -> Job:
        if not request.selection or not request.selection[0].sop_instance_uids:
            raise JobError(f"Job {request.job_uid} names no instances.")
        if not is_of_job(request.labels_key, request.job_uid):
            raise JobError(f"'{request.labels_key[:200]}' is not a key of job {request.job_uid}.")
        selected = request.selection[0]  # the labels lie on the grid of the first role
        return Job(
            job_uid=request.job_uid,
            study_uid=request.study_uid,
            revision=request.revision,
            manifest=self._catalogue.manifest(
                request.model_name, request.model_version, request.model_digest
            ),
            model_digest=request.model_digest,
            series_uid=selected.series_uid,
            sop_instance_uids=tuple(selected.sop_instance_uids),
            labels_key=request.labels_key,
            analysis_started=_moment(request.analysis_started),
            supersedes_job_uid=request.supersedes_job_uid,
            incomplete=request.incomplete,
            frames=tuple(selected.frames),
        )

    @contextmanager
    def _alone(self, job_uid: str) -> Generator[None]:
        """One call at a time for a job: a repeated call finds what the first one made."""
        with self._locks[hash(job_uid) % len(self._locks)]:
            yield


class Reporting:
    """The running service, as its health endpoint asks for it."""

    def __init__(self, settings: Settings, deliveries: Deliveries, engine: Engine) -> None:
        self._settings = settings
        self._engine = engine
        self._deliveries = deliveries

    def dead(self) -> str | None:
        """A sentence when the sender to a destination has ended for good; None while all live."""
        stopped = self._deliveries.problems()
        return stopped[0] if stopped else None

    def problems(self) -> list[str]:
        """What keeps it from being ready."""
        problems = self._deliveries.problems() + database_problems(self._engine)
        if self._settings.reporting.check_with_dciodvfy and not dciodvfy_path().exists():
            problems.append("dciodvfy is not installed; no result can be checked.")
        return problems


@contextmanager
def open_reporting(context: ServiceContext) -> Generator[Reporting]:
    """Opens the service: deliveries first, then the calls that make and release results."""
    settings = context.settings
    catalogue = Catalogue(settings.catalogue_dir)
    maker = ResultMaker(context.engine, context.store, settings.reporting)
    KINDS.require_known(settings.reporting.destinations)
    require_carried(settings.reporting.destinations, KINDS)
    warm_up(settings.catalogue_dir)
    # Half of the grace period for an object under way; the rest for what ends after it.
    with open_deliveries(
        context.engine, context.store, settings.reporting, settings.grace_period_s / 2
    ) as deliveries:
        servicer = ReportingService(catalogue, maker, deliveries)
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
        raise ReportingError(
            f"The database does not answer ({type(error.orig).__name__}).", retryable=True
        ) from error


def _digests(manifest: Manifest) -> set[str]:
    """The digests of all builds that a manifest allows."""
    return {manifest.digest_for(precision, target) for target in Target for precision in Precision}


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise JobError(f"analysis_started '{text}' is no RFC 3339 time.") from error
    if moment.tzinfo is None:
        raise JobError(f"analysis_started '{text}' has no offset from UTC.")
    return moment


def _response(made: Made) -> reporting_pb2.MakeResultsResponse:
    response = reporting_pb2.MakeResultsResponse(
        results=[
            reporting_pb2.ResultReference(
                sop_instance_uid=result.sop_instance_uid,
                series_uid=result.series_uid,
                kind=result.kind,
                store_key=result.store_key,
            )
            for result in made.results
        ],
        measurements=[
            reporting_pb2.Measurement(
                segment_number=value.segment_number,
                segment_label=value.segment_label,
                name=value.name,
                value=value.value,
                unit=value.unit,
                remark=made.remarks.get(value.segment_number, ""),
            )
            for value in made.values
        ],
        times=[
            reporting_pb2.ReportingTime(stage=stage, seconds=seconds)
            for stage, seconds in made.seconds.items()
        ],
    )
    if made.withholding is not None:
        response.withholding.CopyFrom(
            reporting_pb2.Withholding(
                reason=made.withholding.reason,
                values={name: str(value) for name, value in made.withholding.values.items()},
            )
        )
    return response

"""The orchestrator as a process: DBOS, the inference client, the gRPC door, the heartbeat."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version

import grpc
from axial.v1 import orchestrator_pb2, orchestrator_pb2_grpc
from dbos import DBOS, DBOSConfig, _workflow_commands
from dbos._dbos import _get_dbos_instance  # pyright: ignore[reportPrivateUsage]
from sqlalchemy import Engine

from services.common.database import database_problems
from services.common.identity import hashed
from services.common.manifests import StoredManifests
from services.common.rpc import rpc_errors, serve_rpc
from services.common.service import ServiceContext
from services.orchestrator.examining import examine_study
from services.orchestrator.executors import Heartbeat
from services.orchestrator.inference import InferenceClient
from services.orchestrator.model_watch import ModelWatch
from services.orchestrator.progress import ProgressWatch
from services.orchestrator.reporting_client import ReportingClient
from services.orchestrator.stage_context import StageContext
from services.orchestrator.work_queue import JOBS, REVISIONS, WorkQueue
from services.orchestrator.workflow import Workflows

_DBOS_LOOKS_EVERY_S = 30.0


class Orchestrator:
    """The running orchestrator."""

    def __init__(
        self,
        engine: Engine,
        inference: InferenceClient,
        watch: ModelWatch,
        queues: Sequence[WorkQueue],
        heartbeat: Heartbeat,
    ) -> None:
        self._engine = engine
        self._inference = inference
        self._watch = watch
        self._queues = queues
        self._heartbeat = heartbeat

    def dead(self) -> str | None:
        """A sentence when a thread that must run has ended; None while all live."""
        if not all(queue.alive() for queue in self._queues):
            return "A queue is no longer looked into."
        if not self._watch.alive():
            return "The models are no longer asked."
        return None if self._heartbeat.alive() else "The heartbeat has ended."

    def problems(self) -> list[str]:
        """What keeps jobs from being worked on: the database, Triton, or every model."""
        found = database_problems(self._engine)
        problem = self._inference.problem()
        if problem:
            return [*found, problem]  # and so no model either
        return found + self._watch.problems()

    def remarks(self) -> list[str]:
        """Single models that do not work while others do."""
        return self._watch.remarks()


@contextmanager
def open_orchestrator(context: ServiceContext) -> Generator[Orchestrator]:
    """Runs the orchestrator until the context is left."""
    settings = context.settings
    with ExitStack() as resources:
        inference = resources.enter_context(
            InferenceClient(settings.triton, _owner(context), context.credentials)
        )
        reporting = resources.enter_context(
            ReportingClient(settings.reporting.address, context.channel_to("reporting"))
        )
        manifests = StoredManifests(context.store)
        stages = StageContext(
            settings, context.engine, context.store, inference, reporting, manifests
        )
        revisions = WorkQueue(REVISIONS, settings.orchestrator.max_concurrent_revisions)
        jobs = WorkQueue(JOBS, settings.orchestrator.max_concurrent_jobs)
        _configure_dbos(context)
        workflows = Workflows(stages, revisions, jobs)
        # Our own loops look into the queues, with a bell; DBOS listens to none of ours.
        DBOS.listen_queues([])
        DBOS.launch()
        resources.callback(_stop_dbos, context)
        resources.callback(workflows.stop)
        watch = ModelWatch(context.engine, inference, manifests, settings.triton)
        resources.enter_context(watch)
        resources.enter_context(ProgressWatch(context.engine, inference, settings.triton))
        for queue in (revisions, jobs):
            queue.open()
            resources.callback(queue.close)
        heartbeat = resources.enter_context(
            Heartbeat(context.engine, settings.orchestrator, (revisions, jobs))
        )
        resources.enter_context(
            serve_rpc(
                settings.orchestrator.address,
                _Door(workflows, stages).register,
                context.credentials,
            )
        )
        yield Orchestrator(context.engine, inference, watch, (revisions, jobs), heartbeat)


class _Door(orchestrator_pb2_grpc.OrchestratorServicer):
    def __init__(self, workflows: Workflows, stages: StageContext) -> None:
        self._workflows = workflows
        self._stages = stages

    def register(self, server: grpc.Server) -> None:
        """Adds this servicer to a server."""
        orchestrator_pb2_grpc.add_OrchestratorServicer_to_server(self, server)

    def BeginRevision(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.BeginRevisionRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.BeginRevisionResponse:
        with rpc_errors(context):
            workflow_id = self._workflows.begin(request.study_uid, request.revision)
        return orchestrator_pb2.BeginRevisionResponse(workflow_id=workflow_id)

    def RetryStudy(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.RetryStudyRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.RetryStudyResponse:
        with rpc_errors(context):
            count = self._workflows.retry(request.study_uid)
        return orchestrator_pb2.RetryStudyResponse(jobs=count)

    def ExamineStudy(  # noqa: N802 - the name in the contract
        self, request: orchestrator_pb2.ExamineStudyRequest, context: grpc.ServicerContext
    ) -> orchestrator_pb2.ExamineStudyResponse:
        with rpc_errors(context):
            ready = examine_study(self._stages, request.study_uid)
        return orchestrator_pb2.ExamineStudyResponse(
            ready=[
                orchestrator_pb2.ReadySelection(
                    model_name=one.model_name,
                    series_uids=one.series_uids,
                    rival_series_uids=one.rivals,
                )
                for one in ready
            ]
        )


def _configure_dbos(context: ServiceContext) -> None:
    settings = context.settings
    config: DBOSConfig = {
        "name": "axial",
        "system_database_url": settings.resolved_workflow_database_url,
        "executor_id": settings.orchestrator.executor_id,
        # Workflows of an older installation are taken up by a newer one as long as the steps'
        # order is the same: this changes only with that order, not with every release.
        "application_version": f"steps-1-of-{version('axial').split('.')[0]}",
        "log_level": "WARNING",
        # We send no notifications between workflows; the default looks for them every second.
        "notification_listener_polling_interval_sec": _DBOS_LOOKS_EVERY_S,
    }
    DBOS(config=config)
    # Nothing of ours is delayed, has a workflow deadline or goes through DBOS's own queue; it looks
    # for all three each second by default, at half a percent of a core.
    _workflow_commands._BACKGROUND_JOBS_INTERVAL_SEC = _DBOS_LOOKS_EVERY_S  # pyright: ignore[reportPrivateUsage]
    internal = _get_dbos_instance()._registry.get_internal_queue()  # pyright: ignore[reportPrivateUsage]
    internal._polling_interval_sec = _DBOS_LOOKS_EVERY_S  # pyright: ignore[reportPrivateUsage]
    for name in ("dbos", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _stop_dbos(context: ServiceContext) -> None:
    # Steps under way may finish within most of the grace period; the rest stays pending.
    DBOS.destroy(workflow_completion_timeout_sec=int(context.settings.grace_period_s * 0.6))


def _owner(context: ServiceContext) -> str:
    """A name for shared memory that no other stack on this machine has."""
    place = str(context.settings.data_dir.resolve())
    return hashed(f"{place} {context.settings.orchestrator.executor_id}")

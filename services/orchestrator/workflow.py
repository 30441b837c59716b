"""The durable workflow: a revision's selection, then one workflow per job.

Steps are recorded by DBOS; a step that was under way when the process died runs again. Workflow
ids derive from the revision and the job, so that nothing starts twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeVar

from dbos import DBOS, DBOSConfiguredInstance, SetEnqueueOptions, SetWorkflowID
from sqlalchemy.exc import SQLAlchemyError

from models.manifest import ModelError
from services.common.crashpoints import crashpoint
from services.common.database import utc_now
from services.common.errors import AxialError
from services.common.fates import Verdict
from services.common.identity import hashed, revision_workflow_id
from services.common.manifests import ManifestMissing
from services.common.telemetry import get_logger
from services.orchestrator import jobs
from services.orchestrator.asking_again import (
    jobs_to_retry,
    raise_attempt,
    revision_to_retry,
    undecided_revision,
)
from services.orchestrator.deployments import Deployment, given_to, read_deployments
from services.orchestrator.errors import (
    InferenceFailed,
    ModelUnavailable,
    OrchestratorError,
    ReportingFailed,
    ReportingUnavailable,
)
from services.orchestrator.offering import model_folders
from services.orchestrator.ordering import place_in_queue
from services.orchestrator.recording import RecordedSelection, record_failure_of_revision
from services.orchestrator.retrying import Stopping, with_retries
from services.orchestrator.revision import read_revision
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import infer_stage, release_stage, report_stage, select_stage
from services.orchestrator.work_queue import WorkQueue

_T = TypeVar("_T")
# A database that fails over is back within a minute or two.
DATABASE_ATTEMPTS = 20
# A job whose worker died this often is what kills it (out of memory, say).
MAX_STARTS = 5
# DBOS' states of a workflow that is worked on, or will be.
_AT_WORK = frozenset({"PENDING", "ENQUEUED", "DELAYED"})
_log = get_logger("orchestrator")


@DBOS.dbos_class()
class Workflows(DBOSConfiguredInstance):
    """The workflows of one worker."""

    def __init__(self, context: StageContext, revisions: WorkQueue, job_queue: WorkQueue) -> None:
        super().__init__("axial")
        self._context = context
        self._revisions = revisions
        self._jobs = job_queue
        self._stopping = context.stopping

    def stop(self) -> None:
        """Has waiting steps give up their wait; their workflows stay pending."""
        self._stopping.set()

    def begin(self, study_uid: str, number: int) -> str:
        """Starts the workflow of a revision, or finds it started; returns its id."""
        workflow_id = revision_workflow_id(study_uid, number)
        self._begin(workflow_id, study_uid, number)
        return workflow_id

    def retry(self, study_uid: str) -> int:
        """Starts what failed in a study's newest revision again; returns the number of works."""
        engine = self._context.engine
        served = {each.digest for each in self._given_to(study_uid)}
        again = self._with_open_attempts(jobs_to_retry(engine, study_uid, served))
        crashpoint("orchestrator.retry.recorded")
        self._enqueue(again)
        number = revision_to_retry(engine, study_uid, served) or self._abandoned_revision(study_uid)
        if number is None:
            return len(again)
        # The revision's own workflow id is spent; every request is a workflow of its own.
        again_id = f"{revision_workflow_id(study_uid, number)}:{uuid.uuid4().hex[:8]}"
        self._begin(again_id, study_uid, number)
        return len(again) + 1

    @DBOS.workflow()
    def revision(self, study_uid: str, number: int) -> None:
        """Selects, and puts every job that results on the queue."""
        try:
            to_run, superseded = self._select(study_uid, number)
        except Exception as error:  # noqa: BLE001 - whatever it is, every series gets a fate
            self._fail_revision(study_uid, number, _problem(error))
            self._revisions.ring()
            return
        self._enqueue([(uid, attempt) for uid, attempt in to_run])
        crashpoint("orchestrator.jobs.enqueued")
        if superseded:
            self._withdraw(superseded)
        self._revisions.ring()

    @DBOS.workflow()
    def job(self, job_uid: str) -> None:
        """Infers, reports and releases; whatever fails, the job gets a fate."""
        try:
            if self._infer(job_uid) and self._report(job_uid):
                self._release(job_uid)
        except Exception as error:  # noqa: BLE001 - whatever it is, the job gets a fate
            self._fail_job(job_uid, *_verdict(error))
        finally:
            self._jobs.ring()

    @DBOS.step()
    def _select(self, study_uid: str, number: int) -> tuple[list[tuple[str, int]], list[str]]:
        def select() -> RecordedSelection:
            with self._revisions.slot():
                return select_stage(self._context, study_uid, number)

        recorded = self._persist(select, DATABASE_ATTEMPTS, "select")
        return list(recorded.to_run), list(recorded.superseded)

    @DBOS.step()
    def _infer(self, job_uid: str) -> bool:
        starts = self._persist(
            lambda: jobs.begin_job(self._context.engine, job_uid), DATABASE_ATTEMPTS, "start"
        )
        if starts > MAX_STARTS:
            raise OrchestratorError(f"The worker died {starts - 1} times while working on it.")
        attempts = self._context.settings.orchestrator.infer_attempts

        def infer() -> bool:
            with self._jobs.slot():
                return infer_stage(self._context, job_uid)

        try:
            return self._persist(infer, attempts, "infer")
        except Stopping:
            self._undo_start(job_uid)
            raise

    def _undo_start(self, job_uid: str) -> None:
        try:
            jobs.undo_start(self._context.engine, job_uid)
        except SQLAlchemyError as error:
            # A process that stops waits for no database: the job has one start less to go.
            _log.warning("start_not_taken_back", job=hashed(job_uid), kind=type(error).__name__)

    @DBOS.step()
    def _report(self, job_uid: str) -> bool:
        attempts = self._context.settings.orchestrator.reporting_attempts
        return self._persist(lambda: report_stage(self._context, job_uid), attempts, "report")

    @DBOS.step()
    def _release(self, job_uid: str) -> None:
        attempts = self._context.settings.orchestrator.reporting_attempts
        self._persist(lambda: release_stage(self._context, job_uid), attempts, "deliver")

    @DBOS.step()
    def _withdraw(self, job_uids: list[str]) -> None:
        attempts = self._context.settings.orchestrator.reporting_attempts
        crashpoint("orchestrator.withdraw.begin")
        self._persist(lambda: self._context.reporting.withdraw(job_uids), attempts, "withdraw")
        crashpoint("orchestrator.withdraw.done")

    @DBOS.step()
    def _fail_job(self, job_uid: str, reason: str, problem: str) -> None:
        def end() -> None:
            job = jobs.read_job(self._context.engine, job_uid)
            values = {"model": job.model_name, "problem": problem, "stage": job.state}
            jobs.end_job(self._context.engine, job_uid, Verdict(reason, values))

        # Without this fate the job would be under way for ever: its workflow's id is spent.
        self._persist(end, None, "fail")
        _log.error("job_failed", job=hashed(job_uid), reason=reason, problem=problem)

    @DBOS.step()
    def _fail_revision(self, study_uid: str, number: int, problem: str) -> None:
        verdict = Verdict("internal_error", {"stage": "select", "problem": problem})

        def end() -> None:
            revision = read_revision(self._context.engine, study_uid, number)
            models = self._model_names(study_uid)
            record_failure_of_revision(self._context.engine, revision, models, verdict)

        # Without these fates nobody could ask for the revision again.
        self._persist(end, None, "fail")
        _log.error("revision_failed", study=hashed(study_uid), problem=problem)

    def _given_to(self, study_uid: str) -> Collection[Deployment]:
        target = self._context.settings.triton.target
        return given_to(study_uid, read_deployments(self._context.engine, target)).values()

    def _model_names(self, study_uid: str) -> list[str]:
        """Every model that a series needs a fate for, by what needs no manifest."""
        names = {each.model for each in self._given_to(study_uid)}
        with suppress(OrchestratorError):  # without a catalogue those that are served remain
            names |= {each.name for each in model_folders(self._context.settings.catalogue_dir)}
        return sorted(names)

    def _with_open_attempts(self, again: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """The jobs with attempts whose workflows can start: one that has ended starts no more."""
        opened: list[tuple[str, int]] = []
        for job_uid, attempt in again:
            if _has_ended(_job_workflow_id(job_uid, attempt)):
                raised = raise_attempt(self._context.engine, job_uid, attempt)
                opened += [] if raised is None else [(job_uid, raised)]
            else:
                opened.append((job_uid, attempt))
        return opened

    def _abandoned_revision(self, study_uid: str) -> int | None:
        """The newest revision when its workflow ended and nothing came of it; else None."""
        number = undecided_revision(self._context.engine, study_uid)
        if number is None or not _has_ended(revision_workflow_id(study_uid, number)):
            return None
        return number

    def _begin(self, workflow_id: str, study_uid: str, number: int) -> None:
        # Asked for by a call: while the database is away it is the caller who tries again.
        place = self._place(jobs.priority_of_study(self._context.engine, study_uid))
        with SetWorkflowID(workflow_id), SetEnqueueOptions(priority=place):
            self._revisions.queue.enqueue(self.revision, study_uid, number)
        self._revisions.ring()

    def _enqueue(self, to_run: list[tuple[str, int]]) -> None:
        for job_uid, attempt in to_run:
            priority = self._persist(
                lambda uid=job_uid: jobs.priority_of(self._context.engine, uid), None, "priority"
            )
            with (
                SetWorkflowID(_job_workflow_id(job_uid, attempt)),
                SetEnqueueOptions(priority=self._place(priority)),
            ):
                self._jobs.queue.enqueue(self.job, job_uid)
        if to_run:
            self._jobs.ring()

    def _place(self, priority: str) -> int:
        return place_in_queue(
            priority, utc_now(), self._context.settings.orchestrator.priority_lead_s
        )

    def _persist(self, call: Callable[[], _T], attempts: int | None, what: str) -> _T:
        return with_retries(call, attempts=attempts, stopping=self._stopping, what=what)


def _job_workflow_id(job_uid: str, attempt: int) -> str:
    return f"job:{job_uid}:{attempt}"


def _has_ended(workflow_id: str) -> bool:
    """Whether a workflow was begun and nothing works on it any more."""
    status = DBOS.get_workflow_status(workflow_id)
    return status is not None and status.status not in _AT_WORK


def _problem(error: Exception) -> str:
    """The error in words that carry no patient data; what is not ours is for the log alone."""
    if isinstance(error, AxialError | ModelError):
        return str(error)
    _log.error("broke_off", exc_info=error)
    return "an error that nobody foresaw; the log has it"


def _verdict(error: Exception) -> tuple[str, str]:
    if isinstance(error, ModelUnavailable | ManifestMissing):
        return "model_unavailable", str(error)
    if isinstance(error, InferenceFailed):
        return "inference_failed", str(error)
    if isinstance(error, ReportingUnavailable | ReportingFailed):
        return "reporting_failed", str(error)
    return "internal_error", _problem(error)

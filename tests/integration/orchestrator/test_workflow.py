"""The durable workflow when things around it end: outages, polite stops, spent workflow ids."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from dbos import DBOS, SetWorkflowID
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from services.common.database import JobRow, StudyRow
from services.common.fates import Verdict
from services.common.identity import revision_workflow_id
from services.common.lifecycle import JobState
from services.common.manifests import ManifestMissing
from services.orchestrator import jobs, retrying, workflow
from services.orchestrator.errors import ModelUnavailable
from services.orchestrator.recording import RecordedSelection
from services.orchestrator.retrying import Stopping
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import select_stage
from tests.builders.worker import REVISIONS_AT_ONCE, Worker

DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "LONGEST_WAIT_S", 0.005)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _away(*_: Any) -> Any:
    raise OperationalError("x", {}, Exception("the disk is full"))


def _broken_off(*_: Any) -> bool:
    raise ValueError


def test_revision_gets_its_fates_however_long_the_database_was_away(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("outage")
    asked: list[int] = []

    def refuse(*_: Any) -> Any:
        asked.append(1)
        _away()

    with monkeypatch.context() as outage:
        outage.setattr(workflow, "select_stage", _away)
        outage.setattr(workflow, "read_revision", refuse)
        worker.workflows.begin(study_uid, 1)
        _wait(lambda: len(asked) > 2 * workflow.DATABASE_ATTEMPTS)
        assert worker.reasons(study_uid) == []
    _wait(lambda: worker.reasons(study_uid) == ["internal_error"])


def test_job_gets_its_fate_however_long_the_database_was_away(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("job-outage")
    asked: list[int] = []

    def refuse(*_: Any) -> Any:
        asked.append(1)
        _away()

    with monkeypatch.context() as outage:
        outage.setattr(jobs, "begin_job", _away)
        outage.setattr(jobs, "read_job", refuse)
        worker.workflows.begin(study_uid, 1)
        _wait(lambda: len(asked) > 2 * workflow.DATABASE_ATTEMPTS)
    _wait(lambda: worker.reasons(study_uid) == ["internal_error"])


def test_a_job_whose_manifest_cannot_be_read_says_that_its_model_is_unavailable(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("another-version")

    def unread(*_: Any) -> Any:
        raise ManifestMissing("The manifest of build abc was written by another version of Axial.")

    monkeypatch.setattr(workflow, "infer_stage", unread)
    worker.workflows.begin(study_uid, 1)
    _wait(lambda: worker.reasons(study_uid) == ["model_unavailable"])


def test_retry_goes_on_with_a_job_whose_workflow_has_ended(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("abandoned-job")
    ((job_uid, attempt),) = select_stage(worker.context, study_uid, 1).to_run
    with SetWorkflowID(f"job:{job_uid}:{attempt}"):
        ended = DBOS.start_workflow(_nothing)
    ended.get_result()
    monkeypatch.setattr(workflow, "infer_stage", _broken_off)
    assert worker.workflows.retry(study_uid) == 1
    _wait(lambda: worker.reasons(study_uid) == ["internal_error"])
    job = worker.job(study_uid)
    assert job is not None
    assert (job.state, job.attempt) == (JobState.FAILED, attempt + 1)


def test_retry_selects_again_where_a_revisions_workflow_ended_with_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("abandoned")
    # Not begun yet: its announcement is under way, and a retry adds nothing.
    assert worker.workflows.retry(study_uid) == 0
    with SetWorkflowID(revision_workflow_id(study_uid, 1)):
        ended = DBOS.start_workflow(_nothing)
    ended.get_result()
    monkeypatch.setattr(workflow, "infer_stage", _broken_off)
    assert worker.workflows.retry(study_uid) == 1
    _wait(lambda: worker.reasons(study_uid) == ["internal_error"])
    assert worker.job(study_uid) is not None


def test_worker_that_is_stopped_politely_is_no_death(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_uid = worker.receive("stopped")
    ((job_uid, _),) = select_stage(worker.context, study_uid, 1).to_run

    def stop(*_: Any) -> Any:
        worker.context.stopping.set()
        raise ModelUnavailable("The server is restarting.")

    monkeypatch.setattr(workflow, "infer_stage", stop)
    infer: Any = worker.workflows._infer  # pyright: ignore[reportPrivateUsage]
    try:
        for _ in range(workflow.MAX_STARTS + 1):
            worker.context.stopping.clear()
            with pytest.raises(Stopping):
                infer(job_uid)
    finally:
        worker.context.stopping.clear()
    with Session(worker.context.engine) as session:
        assert session.get_one(JobRow, job_uid).starts == 0


@DBOS.workflow()
def _nothing() -> None:
    """A workflow that ends without having written anything down."""


def test_a_study_of_high_priority_starts_before_those_that_wait(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve normal ones wait behind one that is worked on; the thirteenth is a high one."""
    started: list[str] = []
    free = threading.Event()

    def begin(context: StageContext, job_uid: str) -> bool:
        job = jobs.read_job(context.engine, job_uid)
        started.append(job.study_uid)
        assert free.wait(DEADLINE_S)
        jobs.end_job(context.engine, job_uid, Verdict("blank_image", {"low": 0}))
        return False

    monkeypatch.setattr(workflow, "infer_stage", begin)
    first = worker.receive("priority-first")
    worker.workflows.begin(first, 1)
    _wait(lambda: started == [first])
    waiting = [worker.receive(f"priority-{number}") for number in range(12)]
    urgent, unhurried = worker.receive("priority-high"), worker.receive("priority-low")
    with Session(worker.context.engine) as session, session.begin():
        session.get_one(StudyRow, urgent).priority = "high"
        session.get_one(StudyRow, unhurried).priority = "low"
    for study_uid in (unhurried, *waiting, urgent):
        worker.workflows.begin(study_uid, 1)
        _wait(lambda uid=study_uid: worker.job(uid) is not None)
    _wait(lambda: len(_queued()) == 14)
    free.set()
    _wait(lambda: len(started) == 15)
    assert started[1] == urgent
    assert set(started[2:14]) == set(waiting)
    assert started[14] == unhurried


def test_a_revision_of_high_priority_is_selected_before_those_that_wait(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an outage: what was frozen meanwhile waits, and a high study comes last."""
    started: list[str] = []
    free = threading.Event()

    def begin(context: StageContext, study_uid: str, number: int) -> RecordedSelection:
        started.append(study_uid)
        assert free.wait(DEADLINE_S)
        return RecordedSelection((), ())

    monkeypatch.setattr(workflow, "select_stage", begin)
    first = [worker.receive(f"outage-first-{number}") for number in range(REVISIONS_AT_ONCE)]
    for study_uid in first:
        worker.workflows.begin(study_uid, 1)
    _wait(lambda: sorted(started) == sorted(first))
    waiting = [worker.receive(f"outage-{number}") for number in range(6)]
    urgent, unhurried = worker.receive("outage-high"), worker.receive("outage-low")
    with Session(worker.context.engine) as session, session.begin():
        session.get_one(StudyRow, urgent).priority = "high"
        session.get_one(StudyRow, unhurried).priority = "low"
    for study_uid in (unhurried, *waiting, urgent):
        worker.workflows.begin(study_uid, 1)
    _wait(lambda: len(_queued()) == 8)
    free.set()
    _wait(lambda: len(started) == 8 + REVISIONS_AT_ONCE)
    # Two are given out at a time, and of two either may begin first.
    after = started[REVISIONS_AT_ONCE:]
    assert urgent in after[:REVISIONS_AT_ONCE]
    assert unhurried in after[-REVISIONS_AT_ONCE:]


def _queued() -> list[str]:
    return [one.workflow_id for one in DBOS.list_workflows(status="ENQUEUED")]

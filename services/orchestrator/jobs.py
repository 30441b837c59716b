"""What the orchestrator writes down: jobs, their stages, and the fate of every series.

Every function is one transaction and may run twice with the same effect.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from models.manifest import Choose
from services.common.database import (
    FateRow,
    JobRow,
    JobStageRow,
    ResultRow,
    RevisionRow,
    StudyRow,
    utc_now,
)
from services.common.fates import Fate, Value, Verdict
from services.common.identity import job_uid
from services.common.lifecycle import JOB_TRANSITIONS, JobState, require
from services.common.telemetry import metrics
from services.orchestrator.revision import Revision
from services.orchestrator.selection import Chosen, ModelSelection, selection_digest

# How a job's state follows from its verdict.
_END_STATES: Mapping[Fate, JobState] = {
    Fate.PROCESSED: JobState.PROCESSED,
    Fate.REFUSED: JobState.REFUSED,
    Fate.WITHHELD: JobState.WITHHELD,
    Fate.FAILED: JobState.FAILED,
    Fate.SUPERSEDED: JobState.SUPERSEDED,
}
ENDED = frozenset(_END_STATES.values())
# As long as the column is. Parts of a stage are numbered in front, so cut names stay different.
_STAGE_LENGTH = 64


@dataclass(frozen=True, slots=True)
class RecordedSelection:
    """What remains to be done after a selection was written down.

    Attributes:
        to_run: (job UID, attempt) of the jobs that have to be worked on.
        superseded: jobs of earlier revisions whose results must not leave any more.
    """

    to_run: tuple[tuple[str, int], ...]
    superseded: tuple[str, ...]


def record_selection(
    engine: Engine, revision: Revision, selections: Sequence[tuple[ModelSelection, str]]
) -> RecordedSelection:
    """Writes the jobs and fates of a revision's selection.

    A job of an earlier revision with the same model and the same inputs stands for this revision
    too; every other job of an earlier revision is superseded, unless it could not be told whether
    its inputs are still the same. Where a newer revision is already frozen, nothing is run: that
    one covers all that this one holds.

    Args:
        engine: the database.
        revision: the revision.
        selections: what each model chose, with the model's digest.
    """
    with Session(engine) as session, session.begin():
        lock_study(session, revision.study_uid)
        newer = session.scalar(
            select(func.min(RevisionRow.number)).where(
                RevisionRow.study_uid == revision.study_uid, RevisionRow.number > revision.number
            )
        )
        to_run: list[tuple[str, int]] = []
        superseded: list[str] = []
        for selection, digest in selections:
            for series_uid, verdict in selection.verdicts.items():
                _write_fate(session, revision, series_uid, selection, verdict, None)
            if newer is not None:
                verdict = Verdict("newer_revision", {"newer_revision": newer})
                for chosen in selection.selections:
                    uid = chosen.series.series_uid
                    _write_fate(session, revision, uid, selection, verdict, None)
                continue
            _record_jobs(session, revision, selection, digest, to_run, superseded)
        return RecordedSelection(tuple(to_run), tuple(superseded))


def _record_jobs(
    session: Session,
    revision: Revision,
    selection: ModelSelection,
    digest: str,
    to_run: list[tuple[str, int]],
    superseded: list[str],
) -> None:
    earlier = _earlier_jobs(session, revision, selection)
    kept: set[str] = set()
    for chosen in selection.selections:
        job = _carry_over(session, revision, selection, chosen, digest, earlier)
        if job is None:
            job = _create(session, revision, selection, chosen, digest)
        if job.state not in ENDED:
            # Also one that is carried over: whoever recorded it may have died before
            # putting it on the queue, and putting it there twice starts it once.
            to_run.append((job.job_uid, job.attempt))
        kept.add(job.job_uid)
    for job in earlier:
        if job.job_uid not in kept and not _undecided(selection, job):
            _supersede(session, job, revision.number)
            superseded.append(job.job_uid)


def record_failure_of_revision(
    engine: Engine, revision: Revision, models: Sequence[str], verdict: Verdict
) -> None:
    """Gives every series of a revision that has no fate yet this verdict, for every model."""
    with Session(engine) as session, session.begin():
        for series in revision.series:
            for model in models:
                key = (revision.study_uid, revision.number, series.series_uid, model)
                if session.get(FateRow, key) is None:
                    session.add(_fate_row(key, verdict, None))


def read_job(engine: Engine, uid: str) -> JobRow:
    """The job's row, detached."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        row = session.get_one(JobRow, uid)
        session.expunge(row)
        return row


def priority_of(engine: Engine, uid: str) -> str:
    """The priority of the job's study (listener.peers[].priority)."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        of_study = select(StudyRow.priority).join(JobRow, JobRow.study_uid == StudyRow.study_uid)
        return session.scalar(of_study.where(JobRow.job_uid == uid)) or "normal"


def advance_job(engine: Engine, uid: str, state: JobState, **columns: Any) -> JobState:
    """Moves a job on and sets `columns`; returns the state it has then.

    A superseded job stays superseded: the caller stops working on it.
    """
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        if job.state in ENDED:
            return JobState(job.state)
        require(JOB_TRANSITIONS, JobState(job.state), state, f"Job {uid}")
        job.state = state
        for name, value in columns.items():
            setattr(job, name, value)
        return state


def end_job(engine: Engine, uid: str, verdict: Verdict) -> JobState:
    """Ends a job with its verdict, also for the revisions that carried it; returns its state."""
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        if job.state in ENDED:
            return JobState(job.state)
        state = _END_STATES[verdict.fate]
        require(JOB_TRANSITIONS, JobState(job.state), state, f"Job {uid}")
        job.state = state
        job.reason = verdict.reason
        job.reason_values = _stored(verdict)
        job.ended_at = utc_now()
        for selected in job.selection.values():
            series_uid = selected["series_uid"]
            for number in [job.revision, *job.carried_into]:
                key = (job.study_uid, number, series_uid, job.model_name)
                told = verdict if number == job.revision else _carried(verdict, job.revision)
                session.merge(_fate_row(key, told, uid))
            metrics.FATES.labels(job.model_name, verdict.fate, verdict.reason).inc()
        return state


def record_stage(
    engine: Engine, uid: str, stage: str, started: dt.datetime, seconds: float
) -> None:
    """Writes how long a stage of a job took; a long name of a stage is cut."""
    metrics.STAGE_SECONDS.labels(stage.partition(":")[0]).observe(seconds)
    with Session(engine) as session, session.begin():
        session.merge(
            JobStageRow(
                job_uid=uid, stage=stage[:_STAGE_LENGTH], started_at=started, seconds=seconds
            )
        )


def count_start(engine: Engine, uid: str) -> int:
    """Counts that a worker begins to work on a job; returns how often that has happened."""
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        job.starts += 1
        return job.starts


def take_start_back(engine: Engine, uid: str) -> None:
    """Undoes `count_start`: the worker was stopped, it did not die."""
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, uid, with_for_update=True)
        job.starts = max(0, job.starts - 1)


def has_segmentation(engine: Engine, uid: str) -> bool:
    """Whether a job's results hold a segmentation: nothing found makes none."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        found = session.scalar(
            select(func.count())
            .select_from(ResultRow)
            .where(ResultRow.job_uid == uid, ResultRow.kind == "SEG")
        )
        return bool(found)


def lock_study(session: Session, study_uid: str) -> None:
    """Selections and freezings of one study come one after another (PostgreSQL)."""
    session.execute(
        select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid).with_for_update()
    )


def _earlier_jobs(session: Session, revision: Revision, selection: ModelSelection) -> list[JobRow]:
    return list(
        session.scalars(
            select(JobRow)
            .where(
                JobRow.study_uid == revision.study_uid,
                JobRow.revision < revision.number,
                JobRow.model_name == selection.model.identity.name,
                JobRow.state != JobState.SUPERSEDED,
            )
            .order_by(JobRow.revision.desc(), JobRow.job_uid)
            .with_for_update()
        )
    )


def _carry_over(
    session: Session,
    revision: Revision,
    selection: ModelSelection,
    chosen: Chosen,
    digest: str,
    earlier: Sequence[JobRow],
) -> JobRow | None:
    inputs = selection_digest(chosen)
    for job in earlier:
        same = job.model_digest == digest and job.selection_digest == inputs
        if not same or job.state == JobState.FAILED:
            continue
        if job.state in ENDED and job.reason is not None:
            verdict = _carried(Verdict(job.reason, job.reason_values or {}), job.revision)
            _write_fate(
                session, revision, chosen.series.series_uid, selection, verdict, job.job_uid
            )
        elif revision.number not in job.carried_into:
            job.carried_into = [*job.carried_into, revision.number]
        return job
    return None


def _undecided(selection: ModelSelection, job: JobRow) -> bool:
    """Whether the model could not be asked about a job's inputs, or they could not be read.

    Such a job stands as it is: asking again may find that nothing has changed.
    """
    verdicts = (selection.verdicts.get(each["series_uid"]) for each in job.selection.values())
    return any(verdict is not None and verdict.fate is Fate.FAILED for verdict in verdicts)


def _carried(verdict: Verdict, earlier_revision: int) -> Verdict:
    if verdict.fate is not Fate.PROCESSED:
        return verdict
    told = {} if verdict.reason == "unchanged" else {"result": f" {verdict.sentence}"}
    values = {**verdict.values, **told, "earlier_revision": earlier_revision}
    return Verdict("unchanged", values)


def _create(
    session: Session,
    revision: Revision,
    selection: ModelSelection,
    chosen: Chosen,
    digest: str,
) -> JobRow:
    inputs = selection_digest(chosen)
    uid = job_uid(revision.study_uid, revision.number, digest, inputs)
    existing = session.get(JobRow, uid)
    if existing is not None:
        return existing
    series_uid = chosen.series.series_uid
    row = JobRow(
        job_uid=uid,
        study_uid=revision.study_uid,
        revision=revision.number,
        model_name=selection.model.identity.name,
        model_version=selection.model.identity.version,
        model_digest=digest,
        selection={
            chosen.role: {
                "series_uid": series_uid,
                "sop_instance_uids": [p.sop_instance_uid for p in chosen.geometry.planes],
                "frames": [p.frame or 0 for p in chosen.geometry.planes],
                "left_out": chosen.left_out,
            }
        },
        selection_digest=inputs,
        state=JobState.SELECTED,
        supersedes_job_uid=_predecessor(session, revision, selection, chosen),
        carried_into=[],
        attempt=1,
        created_at=utc_now(),
    )
    session.add(row)
    return row


def _predecessor(
    session: Session, revision: Revision, selection: ModelSelection, chosen: Chosen
) -> str | None:
    """The newest earlier job that made results, whatever became of it since.

    Whether they left is reporting's to know; it follows this chain to the first that did.
    """
    with_results = session.scalars(
        select(JobRow)
        .where(
            JobRow.study_uid == revision.study_uid,
            JobRow.revision < revision.number,
            JobRow.model_name == selection.model.identity.name,
            select(ResultRow.job_uid).where(ResultRow.job_uid == JobRow.job_uid).exists(),
        )
        .order_by(JobRow.revision.desc(), JobRow.job_uid)
    ).all()
    for job in with_results:
        if job.selection.get(chosen.role, {}).get("series_uid") == chosen.series.series_uid:
            return job.job_uid
    only_one = selection.model.roles[chosen.role].choose is Choose.BEST
    return with_results[0].job_uid if only_one and with_results else None


def _supersede(session: Session, job: JobRow, newer_revision: int) -> None:
    verdict = Verdict("newer_revision", {"newer_revision": newer_revision})
    require(JOB_TRANSITIONS, JobState(job.state), JobState.SUPERSEDED, f"Job {job.job_uid}")
    job.state = JobState.SUPERSEDED
    job.reason = verdict.reason
    job.reason_values = _stored(verdict)
    job.ended_at = job.ended_at or utc_now()
    for selected in job.selection.values():
        for number in [job.revision, *job.carried_into]:
            key = (job.study_uid, number, selected["series_uid"], job.model_name)
            session.merge(_fate_row(key, verdict, job.job_uid))


def _write_fate(
    session: Session,
    revision: Revision,
    series_uid: str,
    selection: ModelSelection,
    verdict: Verdict,
    job: str | None,
) -> None:
    name = selection.model.identity.name
    key = (revision.study_uid, revision.number, series_uid, name)
    if session.get(FateRow, key) is None:
        metrics.FATES.labels(name, verdict.fate, verdict.reason).inc()
    session.merge(_fate_row(key, verdict, job))


def _fate_row(key: tuple[str, int, str, str], verdict: Verdict, job: str | None) -> FateRow:
    study_uid, number, series_uid, model = key
    return FateRow(
        study_uid=study_uid,
        revision=number,
        series_uid=series_uid,
        model_name=model,
        fate=verdict.fate,
        reason=verdict.reason,
        reason_values=_stored(verdict),
        job_uid=job,
        decided_at=utc_now(),
    )


def _stored(verdict: Verdict) -> dict[str, Value]:
    """The values as JSON takes them: an open end of a range is a word, not an infinity."""
    return {
        name: "no limit" if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in verdict.values.items()
    }

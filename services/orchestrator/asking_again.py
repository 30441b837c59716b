"""Asking again: what of a study failed, and from where it starts anew."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from services.common.database import FateRow, JobRow, RevisionRow
from services.common.fates import Fate
from services.common.lifecycle import JOB_TRANSITIONS, JobState, require
from services.orchestrator.fate_rows import NO_JOB
from services.orchestrator.jobs import ENDED, lock_study


def jobs_to_retry(engine: Engine, study_uid: str, served: Collection[str]) -> list[tuple[str, int]]:
    """Puts the failed jobs of a study's newest revision back to their start.

    Jobs that are under way are returned too: an earlier call may have been cut off between
    this and putting the jobs on the queue. Jobs whose build is served no more are left: their
    revision is selected anew (`revision_to_retry`).

    Args:
        engine: the database.
        study_uid: the study.
        served: the digests of the builds that studies are given to.

    Returns:
        Of each job its UID and its attempt.
    """
    with Session(engine) as session, session.begin():
        lock_study(session, study_uid)
        newest = _newest_revision(session, study_uid)
        jobs = session.scalars(
            select(JobRow)
            .where(
                JobRow.study_uid == study_uid,
                JobRow.state.in_([JobState.FAILED, *(s for s in JobState if s not in ENDED)]),
            )
            .order_by(JobRow.job_uid)
            .with_for_update()
        ).all()
        wanted = [
            job
            for job in jobs
            if newest in (job.revision, *job.carried_into)
            and (job.state != JobState.FAILED or job.model_digest in served)
        ]
        for job in wanted:
            if job.state == JobState.FAILED:
                require(JOB_TRANSITIONS, JobState.FAILED, JobState.SELECTED, f"Job {job.job_uid}")
                job.state = JobState.SELECTED
                job.attempt += 1
                job.starts = 0
                job.progress = None
                job.ended_at = None
        return [(job.job_uid, job.attempt) for job in wanted]


def raise_attempt(engine: Engine, job_uid: str, spent: int) -> int | None:
    """A new attempt at a job that is under way and that no workflow works on any more.

    The job goes on from its state.

    Args:
        engine: the database.
        job_uid: the job.
        spent: the attempt whose workflow was seen to have ended.

    Returns:
        The new attempt; None when the job has ended, or has a newer attempt already.
    """
    with Session(engine) as session, session.begin():
        job = session.get_one(JobRow, job_uid, with_for_update=True)
        if job.state in ENDED or job.attempt != spent:
            return None
        job.attempt += 1
        job.starts = 0
        job.progress = None
        return job.attempt


def undecided_revision(engine: Engine, study_uid: str) -> int | None:
    """The study's newest revision when that has neither fates nor jobs; else None."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        newest = _newest_revision(session, study_uid)
        fates = session.scalar(
            select(func.count())
            .select_from(FateRow)
            .where(FateRow.study_uid == study_uid, FateRow.revision == newest)
        )
        jobs = session.scalars(select(JobRow).where(JobRow.study_uid == study_uid)).all()
        if fates or any(newest in (job.revision, *job.carried_into) for job in jobs):
            return None
        return newest or None


def revision_to_retry(engine: Engine, study_uid: str, served: Collection[str]) -> int | None:
    """The study's newest revision when that has to be selected anew; else None.

    A revision has to be selected anew when a model's selection in it failed, or a job failed whose
    build is served no more.

    Args:
        engine: the database.
        study_uid: the study.
        served: the digests of the builds that studies are given to.
    """
    with Session(engine.execution_options(axial_readonly=True)) as session:
        newest = _newest_revision(session, study_uid)
        failed = session.scalars(
            select(FateRow.job_uid).where(
                FateRow.study_uid == study_uid,
                FateRow.revision == newest,
                FateRow.fate == Fate.FAILED,
            )
        ).all()
        builds = session.scalars(
            select(JobRow.model_digest).where(JobRow.job_uid.in_([uid for uid in failed if uid]))
        ).all()
        if NO_JOB in failed or any(build not in served for build in builds):
            return newest
        return None


def _newest_revision(session: Session, study_uid: str) -> int:
    newest = select(func.max(RevisionRow.number)).where(RevisionRow.study_uid == study_uid)
    return session.scalar(newest) or 0

"""Fates as rows: how a series ended for a model, or for a job of that model.

A series that was no input of a job has one fate, without a job; a series that was has one for
each job that read it, and none without.
"""

from __future__ import annotations

import math

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from services.common.database import FateRow, utc_now
from services.common.fates import Fate, Verdict
from services.common.sentences import Value
from services.common.telemetry import metrics

# Study UID, number of the revision, series UID, name of the model.
FateKey = tuple[str, int, str, str]
NO_JOB = ""


def write_fate(session: Session, key: FateKey, verdict: Verdict, job_uid: str = NO_JOB) -> None:
    """Writes a fate; an earlier fate of the same job is replaced.

    Args:
        session: of the caller's transaction.
        key: whose fate this is.
        verdict: the fate.
        job_uid: the job that read the series; NO_JOB when none did. A fate without a job gives way
            to those of jobs.
    """
    rows = {row.job_uid: row for row in session.scalars(select(FateRow).where(*_is(key)))}
    if job_uid == NO_JOB and any(rows):
        return
    if job_uid != NO_JOB and NO_JOB in rows:
        session.delete(rows[NO_JOB])
    before = rows.get(job_uid)
    if before is None or before.reason != verdict.reason:
        metrics.FATES.labels(key[3], verdict.fate, verdict.reason).inc()
    session.merge(_row(key, verdict, job_uid))


def write_fate_where_none_is(session: Session, key: FateKey, verdict: Verdict) -> None:
    """Writes a fate without a job for a series that has none at all."""
    if session.scalar(select(FateRow.job_uid).where(*_is(key)).limit(1)) is None:
        session.add(_row(key, verdict, NO_JOB))


def remove_fates(session: Session, key: FateKey, job_uid: str) -> None:
    """Removes a job's fates: the revision is decided anew."""
    session.execute(delete(FateRow).where(*_is(key), FateRow.job_uid == job_uid))


def carried(verdict: Verdict, earlier_revision: int) -> Verdict:
    """What a job's verdict says to a later revision that chose the same inputs."""
    if verdict.fate is not Fate.PROCESSED:
        return verdict
    outcome = {} if verdict.reason == "unchanged" else {"result": f" {verdict.sentence}"}
    values = {**verdict.values, **outcome, "earlier_revision": earlier_revision}
    return Verdict("unchanged", values)


def storable(verdict: Verdict) -> dict[str, Value]:
    """The values as JSON can hold them: an open end of a range is a word, not an infinity."""
    return {
        name: "no limit" if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in verdict.values.items()
    }


def _is(key: FateKey) -> tuple[ColumnElement[bool], ...]:
    study_uid, number, series_uid, model = key
    return (
        FateRow.study_uid == study_uid,
        FateRow.revision == number,
        FateRow.series_uid == series_uid,
        FateRow.model_name == model,
    )


def _row(key: FateKey, verdict: Verdict, job_uid: str) -> FateRow:
    study_uid, number, series_uid, model = key
    return FateRow(
        study_uid=study_uid,
        revision=number,
        series_uid=series_uid,
        model_name=model,
        job_uid=job_uid,
        fate=verdict.fate,
        reason=verdict.reason,
        reason_values=storable(verdict),
        decided_at=utc_now(),
    )

"""A job as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import (
    DeliveryRow,
    JobInputRow,
    JobOutputRow,
    JobRow,
    JobStageRow,
    MeasurementRow,
    ResultRow,
)
from services.common.fates import read_verdict
from services.common.lifecycle import JobState
from services.gateway import answers


def job_answer(session: Session, row: JobRow) -> answers.Job:
    """What became of a job: its inputs, numbers, times, results and deliveries."""
    stages = session.scalars(
        select(JobStageRow)
        .where(JobStageRow.job_uid == row.job_uid)
        .order_by(JobStageRow.started_at)
    )
    results = session.scalars(
        select(ResultRow).where(ResultRow.job_uid == row.job_uid).order_by(ResultRow.sequence)
    ).all()
    verdict = read_verdict(row.reason, row.reason_values) if row.reason else None
    inputs = session.execute(
        select(JobInputRow.role, JobInputRow.series_uid)
        .where(JobInputRow.job_uid == row.job_uid)
        .order_by(JobInputRow.ordinal)
    )
    measurements = session.scalars(
        select(MeasurementRow)
        .where(MeasurementRow.job_uid == row.job_uid)
        .order_by(MeasurementRow.ordinal)
    )
    outputs = session.execute(
        select(JobOutputRow.name, JobOutputRow.numbers)
        .where(JobOutputRow.job_uid == row.job_uid, JobOutputRow.kind == "values")
        .order_by(JobOutputRow.ordinal)
    )
    return answers.Job(
        job_uid=row.job_uid,
        revision=row.revision,
        model=row.model_name,
        model_version=row.model_version,
        model_digest=row.model_digest,
        state=row.state,
        progress=row.progress if row.state == JobState.SELECTED else None,
        reason=row.reason,
        sentence=verdict.sentence if verdict else None,
        series={each.role: each.series_uid for each in inputs},
        measurements=[_measurement(item) for item in measurements],
        numbers={each.name: each.numbers for each in outputs},
        stages=[
            answers.Stage(stage=item.stage, started_at=item.started_at, seconds=item.seconds)
            for item in stages
        ],
        results=[_result(item) for item in results],
        deliveries=_deliveries(session, row.job_uid, results),
        created_at=row.created_at,
        ended_at=row.ended_at,
    )


def _measurement(row: MeasurementRow) -> dict[str, Any]:
    """What was measured; what is not known about it is left out."""
    always = {
        "segment_number": row.segment_number,
        "segment_label": row.segment_label,
        "name": row.name,
        "value": row.value,
        "unit": row.unit,
        "remark": row.remark,
    }
    more = {
        "lesion": row.lesion or None,
        "low": row.low,
        "high": row.high,
        "why_unknown": row.why_unknown or None,
    }
    return always | {name: value for name, value in more.items() if value is not None}


def _result(row: ResultRow) -> answers.Result:
    return answers.Result(
        sop_instance_uid=row.sop_instance_uid,
        series_uid=row.series_uid,
        kind=row.kind,
        store_key=row.store_key,
        size_bytes=row.size_bytes,
    )


def _deliveries(
    session: Session, job_uid: str, results: Sequence[ResultRow]
) -> list[answers.Delivery]:
    kinds = {result.sop_instance_uid: result.kind for result in results}
    rows = session.scalars(
        select(DeliveryRow)
        .where(DeliveryRow.job_uid == job_uid)
        .order_by(DeliveryRow.destination, DeliveryRow.sequence)
    )
    return [
        answers.Delivery(
            delivery_uid=row.delivery_uid,
            sop_instance_uid=row.sop_instance_uid,
            kind=kinds.get(row.sop_instance_uid, "?"),
            destination=row.destination,
            state=row.state,
            attempts=row.attempts,
            last_error=row.last_error,
            next_attempt_at=row.next_attempt_at,
            delivered_at=row.delivered_at,
            sent_again=row.sent_again,
        )
        for row in rows
    ]

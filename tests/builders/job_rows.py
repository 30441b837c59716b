"""Jobs as the orchestrator writes them down, and results as reporting registers them."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from services.common.database import JobRow, ResultRow, utc_now
from services.common.identity import derived_uid
from services.reporting.job import Job


def write_job(engine: Engine, job_uid: str, study_uid: str, state: str) -> None:
    """Writes a job of the study's first revision in some state."""
    _write(
        engine,
        JobRow(
            job_uid=job_uid,
            study_uid=study_uid,
            revision=1,
            model_name="brain-extraction",
            model_version="1.0.0",
            model_digest="0" * 64,
            state=state,
        ),
    )


def write_inferred(engine: Engine, job: Job) -> None:
    """Writes a job of which reporting is to make the results; again where it is written already."""
    _write(
        engine,
        JobRow(
            job_uid=job.job_uid,
            study_uid=job.study_uid,
            revision=job.revision,
            model_name=job.manifest.name,
            model_version=job.manifest.version,
            model_digest=job.model_digest,
            state="inferred",
            supersedes_job_uid=job.supersedes_job_uid or None,
        ),
    )


def write_result(engine: Engine, job_uid: str, study_uid: str) -> str:
    """Registers a segmentation of a job, without its object; returns its SOP instance UID."""
    uid = derived_uid("result", job_uid)
    _merge(
        engine,
        ResultRow(
            sop_instance_uid=uid,
            job_uid=job_uid,
            study_uid=study_uid,
            series_uid=derived_uid("series", job_uid),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            kind="SEG",
            form="",
            sequence=1,
            store_key="k",
            digest="d",
            size_bytes=1,
            created_at=utc_now(),
        ),
    )
    return uid


def _write(engine: Engine, row: JobRow) -> None:
    row.selection_digest = "0" * 64
    row.created_at = utc_now()
    _merge(engine, row)


def _merge(engine: Engine, row: JobRow | ResultRow) -> None:
    with Session(engine) as session, session.begin():
        session.merge(row)

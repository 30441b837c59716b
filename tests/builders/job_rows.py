"""Jobs as the orchestrator writes them down."""

from __future__ import annotations

from sqlalchemy import Engine, insert

from services.common.database import JobRow, utc_now


def write_job(engine: Engine, job_uid: str, study_uid: str, state: str) -> None:
    """Writes a job of the study's first revision in some state."""
    with engine.begin() as connection:
        connection.execute(
            insert(JobRow).values(
                job_uid=job_uid,
                study_uid=study_uid,
                revision=1,
                model_name="brain-extraction",
                model_version="1.0.0",
                model_digest="0" * 64,
                selection_digest="0" * 64,
                state=state,
                created_at=utc_now(),
            )
        )

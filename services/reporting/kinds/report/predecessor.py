"""Which report a new one replaces (Predecessor Documents, PS3.3 C.17.2): one that has left."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import Connection, Engine, select

from services.common.database import DeliveryRow, JobRow, ResultRow
from services.common.lifecycle import DeliveryState
from services.reporting.objects.naming import COMPREHENSIVE_3D_SR_STORAGE, Kind

# What is being sent may be there already; what waits, is dead or was withdrawn is not.
_MAY_HAVE_LEFT = (DeliveryState.DELIVERED.value, DeliveryState.SENDING.value)


def predecessor(engine: Engine, superseded_job_uid: str) -> Dataset | None:
    """A reference to the report of the superseded job, if a destination may have it.

    Where that job's report never left, what a destination may have is the report that it was to
    replace itself, and so on. None when no report of the line has left.
    """
    seen: set[str] = set()
    job_uid: str | None = superseded_job_uid
    with engine.connect().execution_options(axial_readonly=True) as connection:
        while job_uid and job_uid not in seen:
            seen.add(job_uid)
            row = _report_that_left(connection, job_uid)
            if row is not None:
                return _reference(row)
            job_uid = connection.execute(
                select(JobRow.supersedes_job_uid).where(JobRow.job_uid == job_uid)
            ).scalar_one_or_none()
    return None


def _report_that_left(connection: Connection, job_uid: str) -> Any:
    """The job's SR, the plain form before the others."""
    return connection.execute(
        select(ResultRow.__table__)
        .where(
            ResultRow.job_uid == job_uid,
            ResultRow.kind == Kind.SR.value,
            select(DeliveryRow.delivery_uid)
            .where(
                DeliveryRow.sop_instance_uid == ResultRow.sop_instance_uid,
                DeliveryRow.state.in_(_MAY_HAVE_LEFT),
            )
            .exists(),
        )
        .order_by(ResultRow.form)
        .limit(1)
    ).one_or_none()


def _reference(row: Any) -> Dataset:
    reference = Dataset()
    reference.SOPClassUID = COMPREHENSIVE_3D_SR_STORAGE
    reference.SOPInstanceUID = row.sop_instance_uid
    reference.StudyInstanceUID = row.study_uid
    reference.SeriesInstanceUID = row.series_uid
    return reference

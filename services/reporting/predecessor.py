"""Which earlier result a new one replaces at a destination: one that the destination has.

A report names the report that it replaces (Predecessor Documents, PS3.3 C.17.2). What a destination
never got would be a reference into nothing there, so that each destination has a predecessor of its
own, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset
from sqlalchemy import Connection, select

from services.common.database import DeliveryRow, JobRow, ResultRow
from services.common.lifecycle import ARRIVED, DeliveryState

# A delivery whose sender has it under way may end as delivered, or not.
_UNDER_WAY = DeliveryState.SENDING


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier result that a destination has, or may have.

    Attributes:
        certain: the destination has acknowledged the result; else it is on its way there now.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    certain: bool

    def reference(self) -> Dataset:
        """Its identity as a data set."""
        reference = Dataset()
        reference.SOPClassUID = self.sop_class_uid
        reference.SOPInstanceUID = self.sop_instance_uid
        reference.StudyInstanceUID = self.study_uid
        reference.SeriesInstanceUID = self.series_uid
        return reference


def earlier_results(
    connection: Connection, superseded_job_uid: str, kind: str
) -> Mapping[str, tuple[Earlier, ...]]:
    """The results of a kind that a new result may replace, by destination, the nearest first.

    The results of the superseded job, then of the job that it was to replace itself, and so on: for
    each destination as far as the first that it certainly has.

    Args:
        superseded_job_uid: empty for none.
    """
    seen: set[str] = set()
    job_uid: str | None = superseded_job_uid
    found: dict[str, list[Earlier]] = {}
    while job_uid and job_uid not in seen:
        seen.add(job_uid)
        for destination, earlier in _of_job(connection, job_uid, kind):
            known = found.setdefault(destination, [])
            if not known or not known[-1].certain:
                known.append(earlier)
        job_uid = connection.execute(
            select(JobRow.supersedes_job_uid).where(JobRow.job_uid == job_uid)
        ).scalar_one_or_none()
    return {destination: tuple(each) for destination, each in found.items()}


def certain_predecessors(connection: Connection, job_uid: str, kind: str) -> Mapping[str, str]:
    """By destination, the SOP Instance UID of the result that a job's is to replace there."""
    superseded = connection.execute(
        select(JobRow.supersedes_job_uid).where(JobRow.job_uid == job_uid)
    ).scalar_one_or_none()
    return {
        destination: each.sop_instance_uid
        for destination, earlier in earlier_results(connection, superseded or "", kind).items()
        for each in earlier
        if each.certain
    }


def _of_job(connection: Connection, job_uid: str, kind: str) -> list[tuple[str, Earlier]]:
    """(destination, result) of what a job sent there; of several forms, the plainest."""
    rows = connection.execute(
        select(
            DeliveryRow.destination,
            DeliveryRow.state,
            ResultRow.sop_instance_uid,
            ResultRow.sop_class_uid,
            ResultRow.series_uid,
            ResultRow.study_uid,
        )
        .join(ResultRow, ResultRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
        .where(
            ResultRow.job_uid == job_uid,
            ResultRow.kind == kind,
            DeliveryRow.state.in_([_UNDER_WAY.value, *(state.value for state in ARRIVED)]),
        )
        .order_by(ResultRow.form)
    )
    return [
        (
            row.destination,
            Earlier(
                row.sop_instance_uid,
                row.sop_class_uid,
                row.series_uid,
                row.study_uid,
                certain=row.state != _UNDER_WAY.value,
            ),
        )
        for row in rows
    ]

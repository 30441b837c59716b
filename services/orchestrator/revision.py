"""A frozen revision as the orchestrator reads it: its series with their kept headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, select
from sqlalchemy.orm import Session

from models.manifest.attributes import SELECTOR_ATTRIBUTES
from services.common.database import (
    ConflictRow,
    InstanceRow,
    ResultRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
)
from services.common.headers import AttributeValue, InstanceHeader
from services.common.lifecycle import ConflictState
from services.orchestrator.errors import OrchestratorError


@dataclass(frozen=True, slots=True)
class SeriesOfRevision:
    """One series of a revision.

    Attributes:
        attributes: what selectors may ask for, by keyword; NumberOfInstances is counted.
        headers: the kept headers of its instances, in no order.
        data_digests: SOP instance UID -> SHA-256 of the data set.
        made_by_axial: the series is a result of ours that came back.
        doubled_uids: SOP instance UIDs under which several images of the series came, so that the
            series lacks some.
    """

    series_uid: str
    attributes: Mapping[str, AttributeValue]
    headers: tuple[InstanceHeader, ...]
    data_digests: Mapping[str, str]
    made_by_axial: bool
    doubled_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """A frozen revision.

    Attributes:
        traceparent: the root of the revision's trace.
        incomplete: what was known to be missing at the freezing (services.common.incomplete).
    """

    study_uid: str
    number: int
    traceparent: str
    series: tuple[SeriesOfRevision, ...]
    incomplete: Mapping[str, Any] | None = None


def read_revision(engine: Engine, study_uid: str, number: int) -> Revision:
    """Reads a revision from the database.

    Raises:
        OrchestratorError: there is no such revision.
    """
    with Session(engine.execution_options(axial_readonly=True)) as session:
        row = session.get(RevisionRow, (study_uid, number))
        if row is None:
            raise OrchestratorError(f"There is no revision {number} of study {study_uid}.")
        instances = session.scalars(
            select(InstanceRow)
            .where(*_in_revision(study_uid, number))
            .order_by(InstanceRow.sop_instance_uid)
        ).all()
        series = _by_series(session, instances)
        return Revision(study_uid, number, row.traceparent, series, row.incomplete)


def read_incomplete(engine: Engine, study_uid: str, number: int) -> Mapping[str, Any] | None:
    """What was known to be missing of a revision at its freezing; None when nothing was.

    Raises:
        OrchestratorError: there is no such revision.
    """
    with Session(engine.execution_options(axial_readonly=True)) as session:
        row = session.get(RevisionRow, (study_uid, number))
        if row is None:
            raise OrchestratorError(f"There is no revision {number} of study {study_uid}.")
        return row.incomplete


def read_series(
    engine: Engine, study_uid: str, number: int, series_uids: Sequence[str]
) -> dict[str, tuple[InstanceHeader, ...]]:
    """The kept headers of some series of a revision, in the order of their UIDs.

    Series that the revision does not hold, or not any more, are left out.
    """
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.execute(
            select(InstanceRow.series_uid, InstanceRow.header)
            .where(*_in_revision(study_uid, number), InstanceRow.series_uid.in_(series_uids))
            .order_by(InstanceRow.sop_instance_uid)
        )
        found: dict[str, list[InstanceHeader]] = {}
        for series_uid, header in rows:
            found.setdefault(series_uid, []).append(InstanceHeader.from_json(header))
        return {uid: tuple(headers) for uid, headers in found.items()}


def read_digests(
    engine: Engine, study_uid: str, number: int, series_uids: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Of some series of a revision: series UID -> SOP instance UID -> digest of its data."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        rows = session.execute(
            select(
                InstanceRow.series_uid, InstanceRow.sop_instance_uid, InstanceRow.data_digest
            ).where(*_in_revision(study_uid, number), InstanceRow.series_uid.in_(series_uids))
        )
        found: dict[str, dict[str, str]] = {}
        for series_uid, sop_instance_uid, digest in rows:
            found.setdefault(series_uid, {})[sop_instance_uid] = digest
        return found


def read_registered(engine: Engine, study_uid: str) -> tuple[SeriesOfRevision, ...]:
    """What is registered of a study at present and was not removed, in a revision or not."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        instances = session.scalars(
            select(InstanceRow)
            .where(InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_(None))
            .order_by(InstanceRow.sop_instance_uid)
        ).all()
        return _by_series(session, instances)


def _in_revision(study_uid: str, number: int) -> tuple[ColumnElement[bool], ...]:
    """Conditions on `InstanceRow`: an instance of a revision."""
    members = select(RevisionInstanceRow.sop_instance_uid).where(
        RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number
    )
    # One that was sent again under another study, after its image was removed or because somebody
    # decided so, is this study's no more.
    return InstanceRow.sop_instance_uid.in_(members), InstanceRow.study_uid == study_uid


def _by_series(session: Session, instances: Sequence[InstanceRow]) -> tuple[SeriesOfRevision, ...]:
    by_series: dict[str, list[InstanceRow]] = {}
    for instance in instances:
        by_series.setdefault(instance.series_uid, []).append(instance)
    ours = set(
        session.scalars(select(ResultRow.series_uid).where(ResultRow.series_uid.in_(by_series)))
    )
    rows = {
        series.series_uid: series
        for series in session.scalars(select(SeriesRow).where(SeriesRow.series_uid.in_(by_series)))
    }
    doubled = _doubled(session, list(by_series))
    return tuple(
        _series(rows[uid], members, tuple(doubled.get(uid, ())), made_by_axial=uid in ours)
        for uid, members in sorted(by_series.items())
    )


def _doubled(session: Session, series_uids: Sequence[str]) -> dict[str, list[str]]:
    """UIDs by series under which several images of one series came, and nobody decided yet."""
    found: dict[str, list[str]] = {}
    rows = session.execute(
        select(ConflictRow.kept_series_uid, ConflictRow.sop_instance_uid)
        .where(
            ConflictRow.kept_series_uid.in_(series_uids),
            ConflictRow.among_own,
            ConflictRow.state == ConflictState.OPEN,
        )
        .distinct()
        .order_by(ConflictRow.sop_instance_uid)
    )
    for series_uid, sop_instance_uid in rows:
        found.setdefault(series_uid, []).append(sop_instance_uid)
    return found


def _series(
    row: SeriesRow,
    members: list[InstanceRow],
    doubled_uids: tuple[str, ...],
    *,
    made_by_axial: bool,
) -> SeriesOfRevision:
    headers = tuple(InstanceHeader.from_json(member.header) for member in members)
    # Of the first instance by UID, not of the first that arrived: a choice must not depend on
    # the order in which a sender happens to send.
    first = {k: v for k, v in headers[0].attributes.items() if k in SELECTOR_ATTRIBUTES}
    other = {k: v for k, v in row.attributes.items() if k not in SELECTOR_ATTRIBUTES}
    attributes: dict[str, AttributeValue] = {**other, **first}
    attributes["NumberOfInstances"] = str(len(members))
    return SeriesOfRevision(
        series_uid=row.series_uid,
        attributes=attributes,
        headers=headers,
        data_digests={member.sop_instance_uid: member.data_digest for member in members},
        made_by_axial=made_by_axial,
        doubled_uids=doubled_uids,
    )

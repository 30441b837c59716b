"""Revisions: the numbered, frozen sets of a study's instances.

Every function is one transaction. On PostgreSQL the study's row is the lock between registering
(`registry`) and freezing; on SQLite there is one writer at a time anyway.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from services.common.database import (
    ConflictRow,
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    StudyRow,
)
from services.common.lifecycle import (
    REVISION_TRANSITIONS,
    ConflictState,
    RevisionState,
    require,
)
from services.common.telemetry import root_traceparent

# Of the instances of each series: what is known to be missing, as it is written down.
Missing = Callable[[Mapping[str, int]], Mapping[str, int] | None]


class Trigger(StrEnum):
    """What froze a revision."""

    COUNTED = "counted"
    WANTED = "wanted"
    TOLD = "told"
    QUIET = "quiet"


@dataclass(frozen=True, slots=True)
class StudyActivity:
    """What assembly needs to know of a study.

    Attributes:
        quiet_period: the longest of its senders'.
    """

    study_uid: str
    last_received_at: dt.datetime
    unfrozen_instances: int
    newest_revision: int
    quiet_period: dt.timedelta


@dataclass(frozen=True, slots=True)
class FrozenRevision:
    """A revision just frozen.

    Attributes:
        new_instances: the number that no earlier revision had; new_bytes: theirs.
        receiving_since: when the first of the new instances arrived.
    """

    study_uid: str
    number: int
    instances: int
    new_instances: int
    new_bytes: int
    receiving_since: dt.datetime
    traceparent: str


def read_activity(engine: Engine, study_uid: str) -> StudyActivity | None:
    """The study's activity; None when no instance of the study was ever acknowledged."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        row = connection.execute(_ACTIVITY.where(StudyRow.study_uid == study_uid)).one_or_none()
    return None if row is None else _activity(row)


def unfrozen_studies(engine: Engine) -> list[StudyActivity]:
    """Studies with instances that no revision has yet."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(_ACTIVITY.where(StudyRow.unfrozen_instances > 0)).all()
    return [_activity(row) for row in rows]


def freeze_revision(
    engine: Engine,
    study_uid: str,
    trigger: Trigger,
    now: dt.datetime,
    leaving_out: Collection[str] = (),
    missing: Missing | None = None,
) -> FrozenRevision | None:
    """Freezes the instances of a study as its next revision.

    None when nothing arrived since the newest revision, so that freezing twice is freezing once;
    and while images of the study are taking the places of others: whoever does that has the study
    examined afterwards.

    Args:
        leaving_out: series UIDs of which no new instance becomes a member; what an earlier revision
            has of them stays, so that each revision holds all of the one before.
        missing: gives what is known to be missing of the frozen instances.
    """
    with engine.begin() as connection:
        study = connection.execute(
            _ACTIVITY.where(StudyRow.study_uid == study_uid).with_for_update()
        ).one_or_none()
        if study is None or study.unfrozen_instances == 0:
            return None
        if _is_being_changed(connection, study_uid):
            return None
        number = study.newest_revision + 1
        chosen = _next_members(study_uid, number, leaving_out)
        new = _new_members(connection, study_uid, number, chosen)
        if leaving_out and new.instances == 0:
            return None
        instances = _add_members(connection, study_uid, number, chosen)
        frozen = FrozenRevision(
            study_uid=study_uid,
            number=number,
            instances=instances,
            new_instances=new.instances,
            new_bytes=int(new.size_bytes),
            receiving_since=new.since or study.last_received_at,
            traceparent=root_traceparent(study_uid, number),
        )
        last = new.until if leaving_out else study.last_received_at
        left = _count_instances(connection, study_uid) - instances if leaving_out else 0
        incomplete = missing(_count_by_series(connection, study_uid, number)) if missing else None
        _insert_revision(connection, frozen, trigger, now, last, left, incomplete)
    return frozen


def has_new_instances(
    engine: Engine, study_uid: str, newest_revision: int, series_uids: Collection[str]
) -> bool:
    """Whether one of these series has an instance that the newest revision does not have."""
    members = _members(study_uid, newest_revision)
    with engine.execution_options(axial_readonly=True).connect() as connection:
        new = connection.execute(
            select(InstanceRow.sop_instance_uid)
            .where(
                InstanceRow.study_uid == study_uid,
                InstanceRow.series_uid.in_(sorted(series_uids)),
                InstanceRow.deleted_at.is_(None),
                InstanceRow.sop_instance_uid.not_in(members),
            )
            .limit(1)
        ).first()
    return new is not None


def count_revision(engine: Engine, study_uid: str, number: int) -> int:
    """How many instances a revision has; 0 when there is no such revision."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        found = connection.execute(
            select(RevisionRow.instances).where(
                RevisionRow.study_uid == study_uid, RevisionRow.number == number
            )
        ).scalar()
    return found or 0


def unannounced_revisions(engine: Engine, study_uid: str | None = None) -> list[tuple[str, int]]:
    """Frozen revisions, of all studies or one, that the orchestrator has not confirmed; oldest
    first."""
    frozen = select(RevisionRow.study_uid, RevisionRow.number).where(
        RevisionRow.state == RevisionState.FROZEN
    )
    if study_uid is not None:
        frozen = frozen.where(RevisionRow.study_uid == study_uid)
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(frozen.order_by(RevisionRow.frozen_at, RevisionRow.number)).all()
    return [(study_uid, number) for study_uid, number in rows]


def in_store(engine: Engine, study_uid: str, number: int) -> bool:
    """Whether every instance of a revision lies in the study store, and none in a spool."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        spooled = connection.execute(
            select(InstanceRow.sop_instance_uid)
            .join(
                RevisionInstanceRow,
                RevisionInstanceRow.sop_instance_uid == InstanceRow.sop_instance_uid,
            )
            .where(
                RevisionInstanceRow.study_uid == study_uid,
                RevisionInstanceRow.number == number,
                InstanceRow.spooled_by.is_not(None),
            )
            .limit(1)
        ).first()
    return spooled is None


def mark_announced(engine: Engine, study_uid: str, number: int) -> None:
    """Notes that the orchestrator holds the revision's workflow.

    Raises:
        LifecycleError: the revision is in no state from which that may be.
    """
    chosen = (RevisionRow.study_uid == study_uid, RevisionRow.number == number)
    with engine.begin() as connection:
        state = connection.execute(select(RevisionRow.state).where(*chosen)).scalar_one()
        subject = f"Revision {number}"
        require(REVISION_TRANSITIONS, RevisionState(state), RevisionState.ANNOUNCED, subject)
        connection.execute(update(RevisionRow).where(*chosen).values(state=RevisionState.ANNOUNCED))


_ACTIVITY = select(
    StudyRow.study_uid,
    StudyRow.last_received_at,
    StudyRow.unfrozen_instances,
    StudyRow.newest_revision,
    StudyRow.quiet_period_s,
)


def _activity(row: Any) -> StudyActivity:
    return StudyActivity(
        study_uid=row.study_uid,
        last_received_at=row.last_received_at,
        unfrozen_instances=row.unfrozen_instances,
        newest_revision=row.newest_revision,
        quiet_period=dt.timedelta(seconds=row.quiet_period_s),
    )


def _insert_revision(
    connection: Connection,
    frozen: FrozenRevision,
    trigger: Trigger,
    now: dt.datetime,
    last_received_at: dt.datetime,
    left: int,
    incomplete: Mapping[str, int] | None,
) -> None:
    connection.execute(
        insert(RevisionRow).values(
            study_uid=frozen.study_uid,
            number=frozen.number,
            state=RevisionState.FROZEN,
            frozen_at=now,
            last_received_at=last_received_at,
            trigger=trigger,
            instances=frozen.instances,
            traceparent=frozen.traceparent,
            incomplete=None if incomplete is None else dict(incomplete),
        )
    )
    connection.execute(
        update(StudyRow)
        .where(StudyRow.study_uid == frozen.study_uid)
        .values(unfrozen_instances=left, newest_revision=frozen.number)
    )


def _is_being_changed(connection: Connection, study_uid: str) -> bool:
    under_way = select(
        exists().where(
            or_(ConflictRow.study_uid == study_uid, ConflictRow.kept_study_uid == study_uid),
            ConflictRow.state == ConflictState.TAKING,
        )
    )
    return bool(connection.execute(under_way).scalar_one())


def _count_by_series(connection: Connection, study_uid: str, number: int) -> dict[str, int]:
    counts = (
        select(InstanceRow.series_uid, func.count())
        .where(InstanceRow.sop_instance_uid.in_(_members(study_uid, number)))
        .group_by(InstanceRow.series_uid)
    )
    return {uid: count for uid, count in connection.execute(counts)}  # noqa: C416 - no pairs


def _members(study_uid: str, number: int) -> Select[str]:
    return select(RevisionInstanceRow.sop_instance_uid).where(
        RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number
    )


def _next_members(study_uid: str, number: int, leaving_out: Collection[str]) -> ColumnElement[bool]:
    """Which instances become a revision's members."""
    there = and_(InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_(None))
    if not leaving_out:
        return there
    return and_(
        there,
        or_(
            InstanceRow.series_uid.not_in(sorted(leaving_out)),
            InstanceRow.sop_instance_uid.in_(_members(study_uid, number - 1)),
        ),
    )


def _count_instances(connection: Connection, study_uid: str) -> int:
    there = select(func.count()).where(_next_members(study_uid, 0, ()))
    return connection.execute(there).scalar_one()


def _add_members(
    connection: Connection, study_uid: str, number: int, chosen: ColumnElement[bool]
) -> int:
    instances = select(InstanceRow.study_uid, literal(number), InstanceRow.sop_instance_uid).where(
        chosen
    )
    columns = ["study_uid", "number", "sop_instance_uid"]
    connection.execute(insert(RevisionInstanceRow).from_select(columns, instances))
    members = select(func.count()).select_from(_members(study_uid, number).subquery())
    return connection.execute(members).scalar_one()


def _new_members(
    connection: Connection, study_uid: str, number: int, chosen: ColumnElement[bool]
) -> Any:
    """What no earlier revision has, or had before its image was removed and sent again."""
    received_before = (
        select(RevisionRow.last_received_at)
        .where(RevisionRow.study_uid == study_uid, RevisionRow.number == number - 1)
        .scalar_subquery()
    )
    return connection.execute(
        select(
            func.count().label("instances"),
            func.coalesce(func.sum(InstanceRow.size_bytes), 0).label("size_bytes"),
            func.min(InstanceRow.received_at).label("since"),
            func.max(InstanceRow.received_at).label("until"),
        ).where(
            chosen,
            or_(
                InstanceRow.sop_instance_uid.not_in(_members(study_uid, number - 1)),
                InstanceRow.received_at > received_before,
            ),
        )
    ).one()

"""Removing a study's images: what may go, and how, so that nothing acknowledged goes with it.

First one transaction decides: under the lock of the study's row it looks once more whether
anything still needs the images, and marks the rows. From then on the images count as removed. Then
the objects are deleted, some at a time, while their rows are locked: an image that is sent again
meanwhile waits for the lock, and its row is not among the marked ones afterwards. Last, an audit
event, and the study is done. Whatever is interrupted is done again from the rows.

The rows stay, with their revisions, fates and measurements: what became of a study can be told
when its images are gone.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    ScalarSelect,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    update,
)

from services.common.crashpoints import crashpoint
from services.common.database import (
    ConflictRow,
    DeliveryRow,
    FateRow,
    InstanceRow,
    JobRow,
    RevisionRow,
    StudyRow,
)
from services.common.lifecycle import ConflictState, DeliveryState, JobState, RevisionState
from services.common.store import StudyStore
from services.common.telemetry.audit import AuditEvent, audit

# Objects deleted while their rows are locked: a fraction of a second of one study's rows.
_AT_ONCE = 200

_JOBS_UNDER_WAY = (JobState.SELECTED, JobState.INFERRED, JobState.REPORTED)
_TO_BE_SENT = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.WAITING)


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed of a study.

    Attributes:
        instances: how many, by SOP class UID.
        results: objects that its jobs made.
    """

    study_uid: str
    cause: str
    instances: Mapping[str, int]
    images_bytes: int
    results: int


def removable_studies(
    engine: Engine, now: dt.datetime, limit: int
) -> Sequence[Row[str, dt.datetime, int]]:
    """Study UID, time of the last instance and bytes of studies that nobody needs; oldest first.

    Args:
        now: what was received later was received by a clock that is ahead, and stays.
    """
    images = (
        select(func.sum(InstanceRow.size_bytes))
        .where(InstanceRow.study_uid == StudyRow.study_uid, InstanceRow.deleted_at.is_(None))
        .correlate(StudyRow)
        .scalar_subquery()
    )
    with engine.execution_options(axial_readonly=True).connect() as connection:
        return connection.execute(
            select(StudyRow.study_uid, StudyRow.last_received_at, images)
            .where(_not_needed(), StudyRow.last_received_at <= now)
            .order_by(StudyRow.last_received_at, StudyRow.study_uid)
            .limit(limit)
        ).all()


def stored_bytes(engine: Engine) -> int:
    """What the images of all studies take. Cost: a look at every instance's row."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        total = connection.execute(
            select(func.sum(InstanceRow.size_bytes)).where(InstanceRow.deleted_at.is_(None))
        ).scalar()
    return int(total or 0)


def studies_being_removed(engine: Engine) -> Sequence[str]:
    """Studies of which something may be left to delete."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        return (
            connection.execute(select(StudyRow.study_uid).where(StudyRow.deletion_pending))
            .scalars()
            .all()
        )


def begin_removal(engine: Engine, study_uid: str, cause: str, now: dt.datetime) -> bool:
    """Decides that a study's images go; False where something needs them by now."""
    with engine.begin() as connection:
        chosen = connection.execute(
            select(StudyRow.study_uid)
            .where(StudyRow.study_uid == study_uid, _not_needed())
            .with_for_update(of=StudyRow)
        ).one_or_none()
        # Once more under the lock: on PostgreSQL what was looked at before it was granted may
        # have changed.
        if chosen is None or not _still(connection, study_uid):
            return False
        connection.execute(
            update(InstanceRow)
            .where(InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_(None))
            .values(deleted_at=now)
        )
        connection.execute(
            update(StudyRow)
            .where(StudyRow.study_uid == study_uid)
            .values(deleted_at=now, deletion_cause=cause, deletion_pending=True)
        )
    crashpoint("listener.removal.begun")
    return True


def finish_removal(
    engine: Engine,
    store: StudyStore,
    study_uid: str,
    clock: Callable[[], dt.datetime],
    *,
    with_results: bool,
) -> Removed | None:
    """Deletes the objects of a study whose removal was begun; may be done again.

    Args:
        engine: the database.
        store: holds the objects.
        study_uid: the study.
        clock: the present in UTC.
        with_results: whether labels and results go too.

    Returns:
        What was removed; None where another listener finished the removal meanwhile.

    Raises:
        StoreError: the store did not delete the objects; the study stays to be finished.
    """
    instances: Counter[str] = Counter()
    images_bytes, after = 0, ""
    while True:
        with engine.begin() as connection:
            rows = connection.execute(_marked(study_uid, after)).all()
            if not rows:
                break
            store.delete([row.store_key for row in rows])
        instances.update(row.sop_class_uid for row in rows)
        images_bytes += sum(row.size_bytes for row in rows)
        after = rows[-1].sop_instance_uid
        crashpoint("listener.removal.objects")
    _delete_conflicts(engine, store, study_uid)
    results = _delete_results(engine, store, study_uid) if with_results else 0
    done: dict[str, object] = {"deletion_pending": False}
    if results:
        done["results_deleted_at"] = clock()
    with engine.begin() as connection:
        cause = connection.execute(
            update(StudyRow)
            .where(StudyRow.study_uid == study_uid, StudyRow.deletion_pending)
            .values(**done)
            .returning(StudyRow.deletion_cause)
        ).scalar()
        if cause is None:
            return None
        audit(
            AuditEvent.STUDY_DELETED, study_uid=study_uid, reason=cause, instances=dict(instances)
        )
    crashpoint("listener.removal.done")
    return Removed(study_uid, cause, dict(instances), images_bytes, results)


def _not_needed() -> ColumnElement[bool]:
    """Of a study's row: it has images, and nothing under way needs them.

    Every instance is in a revision that the orchestrator has, the newest one is decided, no job
    is under way, no result is still to be sent, and no conflict is about to take a place.
    """
    of_study = InstanceRow.study_uid == StudyRow.study_uid
    jobs = select(JobRow.job_uid).where(JobRow.study_uid == StudyRow.study_uid)
    return and_(
        StudyRow.unfrozen_instances == 0,
        ~StudyRow.deletion_pending,
        exists().where(of_study, InstanceRow.deleted_at.is_(None)),
        ~exists().where(of_study, InstanceRow.spooled_by.is_not(None)),
        ~exists().where(
            or_(
                ConflictRow.study_uid == StudyRow.study_uid,
                ConflictRow.kept_study_uid == StudyRow.study_uid,
            ),
            ConflictRow.state == ConflictState.TAKING,
        ),
        ~exists().where(
            RevisionRow.study_uid == StudyRow.study_uid, RevisionRow.state == RevisionState.FROZEN
        ),
        exists().where(
            FateRow.study_uid == StudyRow.study_uid, FateRow.revision == StudyRow.newest_revision
        ),
        ~exists().where(JobRow.study_uid == StudyRow.study_uid, JobRow.state.in_(_JOBS_UNDER_WAY)),
        ~exists().where(
            DeliveryRow.job_uid.in_(jobs.correlate(StudyRow)), DeliveryRow.state.in_(_TO_BE_SENT)
        ),
    )


def _still(connection: Connection, study_uid: str) -> bool:
    found = select(StudyRow.study_uid).where(StudyRow.study_uid == study_uid, _not_needed())
    return connection.execute(found).one_or_none() is not None


def _marked(study_uid: str, after: str) -> Select[str, str, str, int]:
    return (
        select(
            InstanceRow.sop_instance_uid,
            InstanceRow.store_key,
            InstanceRow.sop_class_uid,
            InstanceRow.size_bytes,
        )
        .where(
            InstanceRow.study_uid == study_uid,
            InstanceRow.deleted_at == _decided_at(study_uid),
            InstanceRow.sop_instance_uid > after,
        )
        .order_by(InstanceRow.sop_instance_uid)
        .limit(_AT_ONCE)
        .with_for_update(of=InstanceRow)
    )


def _decided_at(study_uid: str) -> ScalarSelect[dt.datetime | None]:
    # Those that an earlier removal marked, and nobody sent again, have no object any more.
    return select(StudyRow.deleted_at).where(StudyRow.study_uid == study_uid).scalar_subquery()


def _delete_conflicts(engine: Engine, store: StudyStore, study_uid: str) -> None:
    """Deletes other bytes that came under the UIDs of removed instances.

    Cost: a listing of all conflicts; they are few.
    """
    kept_beside = [(found.key.split("/")[1], found.key) for found in store.list("conflicts")]
    if not kept_beside:
        return
    with engine.execution_options(axial_readonly=True).connect() as connection:
        uids = set(
            connection.execute(
                select(InstanceRow.sop_instance_uid).where(
                    InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_not(None)
                )
            ).scalars()
        )
    gone = [(uid, key) for uid, key in kept_beside if uid in uids]
    if gone:
        with engine.begin() as connection:
            connection.execute(
                update(ConflictRow)
                .where(ConflictRow.sop_instance_uid.in_(sorted({uid for uid, _ in gone})))
                .values(state=ConflictState.REMOVED, store_key=None)
            )
        store.delete([key for _, key in gone])


def _delete_results(engine: Engine, store: StudyStore, study_uid: str) -> int:
    """Deletes what the study's jobs made, except what may still be sent; returns how many."""
    may_be_sent = (*_TO_BE_SENT, DeliveryState.DEAD, DeliveryState.HELD)
    with engine.execution_options(axial_readonly=True).connect() as connection:
        jobs = connection.execute(
            select(JobRow.job_uid).where(
                JobRow.study_uid == study_uid,
                JobRow.state.not_in(_JOBS_UNDER_WAY),
                ~exists().where(
                    DeliveryRow.job_uid == JobRow.job_uid, DeliveryRow.state.in_(may_be_sent)
                ),
            )
        ).scalars()
        keys = [found.key for job_uid in jobs for found in store.list(f"jobs/{job_uid}")]
    for start in range(0, len(keys), _AT_ONCE):
        store.delete(keys[start : start + _AT_ONCE])
    return len(keys)

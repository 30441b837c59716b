"""What the listener writes into the database: instances, and revisions of them.

Every function is one transaction. On PostgreSQL the study's row is the lock between registering
and freezing; on SQLite there is one writer at a time anyway.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, case, delete, func, insert, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import class_mapper

from services.common.database import (
    Base,
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
)
from services.common.headers import Registration
from services.common.lifecycle import REVISION_TRANSITIONS, RevisionState, require
from services.common.telemetry import root_traceparent
from services.listener.door.admission import PRIORITIES
from services.listener.errors import ListenerError

_UIDS_AT_ONCE = 500


class Trigger(StrEnum):
    """What froze a revision."""

    QUIET = "quiet"
    TOLD = "told"


class Outcome(StrEnum):
    """What became of an instance that was offered."""

    STORED = "stored"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance whose file is synced.

    Attributes:
        data_digest: `door.part10.digest_text` of the data set as sent.
        peer: the calling AE title; priority: the sender's.
    """

    registration: Registration
    store_key: str
    size_bytes: int
    data_digest: str
    received_at: dt.datetime
    peer: str
    priority: str = "normal"


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """An instance that is registered already.

    Attributes:
        spooled_by: the listener in whose spool it lies; None when it lies in the store.
    """

    data_digest: str
    transfer_syntax_uid: str
    store_key: str
    spooled_by: str | None


@dataclass(frozen=True, slots=True)
class StudyActivity:
    """What assembly needs to know of a study."""

    study_uid: str
    last_received_at: dt.datetime
    unfrozen_instances: int
    newest_revision: int


@dataclass(frozen=True, slots=True)
class FrozenRevision:
    """A revision just frozen.

    Attributes:
        new_instances: those that no earlier revision had; new_bytes: theirs.
        receiving_since: when the first of them arrived.
    """

    study_uid: str
    number: int
    instances: int
    new_instances: int
    new_bytes: int
    receiving_since: dt.datetime
    traceparent: str


def find_instance(engine: Engine, sop_instance_uid: str) -> KnownInstance | None:
    """The registered instance of that UID, if there is one."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        return _find(connection, [sop_instance_uid]).get(sop_instance_uid)


def register_instances(
    engine: Engine, batch: Sequence[ReceivedInstance], spooled_by: str
) -> list[Outcome]:
    """Registers instances with their series and studies, in one transaction.

    An instance that is known already changes nothing: the first one received is kept. One whose
    image was removed is new again, with whatever bytes it has now. Nothing is registered when this
    raises.

    Args:
        spooled_by: the listener in whose spool their files lie.
    """
    if not batch:
        return []
    first: dict[str, ReceivedInstance] = {}
    for one in batch:
        first.setdefault(one.registration.header.sop_instance_uid, one)
    # In one order everywhere, so that two listeners never wait for each other's rows.
    rows = [first[uid] for uid in sorted(first)]
    with engine.begin() as connection:
        studies = {one.registration.header.study_uid: one for one in reversed(rows)}
        series = {one.registration.header.series_uid: one for one in reversed(rows)}
        new_studies = _insert_missing(
            connection, StudyRow, [_study_values(studies[uid]) for uid in sorted(studies)]
        )
        new_series = _insert_missing(
            connection, SeriesRow, [_series_values(series[uid]) for uid in sorted(series)]
        )
        new = _insert_missing(
            connection, InstanceRow, [_instance_values(one, spooled_by) for one in rows]
        )
        arrived = [first[uid].registration.header for uid in new]
        # No study or series without an instance.
        _delete(connection, SeriesRow, new_series - {header.series_uid for header in arrived})
        _delete(connection, StudyRow, new_studies - {header.study_uid for header in arrived})
        new |= _take_again(connection, [one for one in rows if _uid(one) not in new], spooled_by)
        _count_new(connection, [first[uid] for uid in new])
        known = _find(connection, [uid for uid in first if uid not in new])
    return [_outcome(one, first, new, known) for one in batch]


def mark_in_store(engine: Engine, sop_instance_uids: Sequence[str]) -> None:
    """Notes that the files of these instances lie in the study store."""
    with engine.begin() as connection:
        for some in _portions(sop_instance_uids):
            connection.execute(
                update(InstanceRow)
                .where(InstanceRow.sop_instance_uid.in_(some))
                .values(spooled_by=None)
            )


def read_activity(engine: Engine, study_uid: str) -> StudyActivity | None:
    """The study's activity; None when no instance of it was ever acknowledged."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        row = connection.execute(_ACTIVITY.where(StudyRow.study_uid == study_uid)).one_or_none()
    return None if row is None else StudyActivity(*row)


def unfrozen_studies(engine: Engine) -> list[StudyActivity]:
    """Studies with instances that no revision has yet."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(_ACTIVITY.where(StudyRow.unfrozen_instances > 0)).all()
    return [StudyActivity(*row) for row in rows]


def freeze_revision(
    engine: Engine, study_uid: str, trigger: Trigger, now: dt.datetime
) -> FrozenRevision | None:
    """Freezes all instances of a study as its next revision.

    None when nothing arrived since the newest revision, so that freezing twice is freezing once.
    """
    with engine.begin() as connection:
        study = connection.execute(
            _ACTIVITY.where(StudyRow.study_uid == study_uid).with_for_update()
        ).one_or_none()
        if study is None or study.unfrozen_instances == 0:
            return None
        number = study.newest_revision + 1
        instances = _add_members(connection, study_uid, number)
        new = _new_members(connection, study_uid, number)
        frozen = FrozenRevision(
            study_uid=study_uid,
            number=number,
            instances=instances,
            new_instances=new.instances,
            new_bytes=int(new.size_bytes),
            receiving_since=new.since or study.last_received_at,
            traceparent=root_traceparent(study_uid, number),
        )
        _insert_revision(connection, frozen, trigger, now, study.last_received_at)
    return frozen


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
)


def _insert_revision(
    connection: Connection,
    frozen: FrozenRevision,
    trigger: Trigger,
    now: dt.datetime,
    last_received_at: dt.datetime,
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
        )
    )
    connection.execute(
        update(StudyRow)
        .where(StudyRow.study_uid == frozen.study_uid)
        .values(unfrozen_instances=0, newest_revision=frozen.number)
    )


def _study_values(received: ReceivedInstance) -> dict[str, Any]:
    return {
        "study_uid": received.registration.header.study_uid,
        "first_received_at": received.received_at,
        "last_received_at": received.received_at,
        "unfrozen_instances": 0,
        "newest_revision": 0,
        "priority": received.priority,
        "attributes": dict(received.registration.study_attributes),
    }


def _series_values(received: ReceivedInstance) -> dict[str, Any]:
    return {
        "series_uid": received.registration.header.series_uid,
        "study_uid": received.registration.header.study_uid,
        "attributes": dict(received.registration.series_attributes),
    }


def _instance_values(received: ReceivedInstance, spooled_by: str) -> dict[str, Any]:
    header = received.registration.header
    return {
        "sop_instance_uid": header.sop_instance_uid,
        "series_uid": header.series_uid,
        "study_uid": header.study_uid,
        "sop_class_uid": header.sop_class_uid,
        "transfer_syntax_uid": header.transfer_syntax_uid,
        "store_key": received.store_key,
        "size_bytes": received.size_bytes,
        "data_digest": received.data_digest,
        "received_at": received.received_at,
        "peer": received.peer,
        "spooled_by": spooled_by,
        "header": header.as_json(),
    }


def _insert_missing(
    connection: Connection, table: type[Base], rows: Sequence[Mapping[str, Any]]
) -> set[str]:
    """Inserts the rows whose key is not there yet; returns the keys that were inserted.

    (What the drivers report as rowcount differs; the returned rows do not.)
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    (key,) = class_mapper(table).primary_key
    statement = dialect.insert(table).on_conflict_do_nothing().returning(key)
    return set(connection.execute(statement, [dict(row) for row in rows]).scalars())


def _take_again(
    connection: Connection, known: Sequence[ReceivedInstance], spooled_by: str
) -> set[str]:
    """Registers instances anew whose images were removed; returns their UIDs.

    On PostgreSQL this waits while a removal holds the row: what it deletes is the old object.
    """
    again: set[str] = set()
    for one in known:
        values = _instance_values(one, spooled_by)
        taken = connection.execute(
            update(InstanceRow)
            .where(
                InstanceRow.sop_instance_uid == values["sop_instance_uid"],
                InstanceRow.store_key == values["store_key"],
                InstanceRow.deleted_at.is_not(None),
            )
            .values(**values, deleted_at=None)
            .returning(InstanceRow.sop_instance_uid)
        )
        again.update(taken.scalars())
    return again


def _uid(received: ReceivedInstance) -> str:
    return received.registration.header.sop_instance_uid


def _delete(connection: Connection, table: type[Base], keys: set[str]) -> None:
    if keys:
        (key,) = class_mapper(table).primary_key
        connection.execute(delete(table).where(key.in_(sorted(keys))))


def _count_new(connection: Connection, new: Sequence[ReceivedInstance]) -> None:
    by_study: dict[str, list[ReceivedInstance]] = {}
    for one in new:
        by_study.setdefault(one.registration.header.study_uid, []).append(one)
    for study_uid in sorted(by_study):
        arrived = by_study[study_uid]
        priorities = PRIORITIES[: min(PRIORITIES.index(one.priority) for one in arrived) + 1]
        connection.execute(
            update(StudyRow)
            .where(StudyRow.study_uid == study_uid)
            .values(
                last_received_at=max(one.received_at for one in arrived),
                unfrozen_instances=StudyRow.unfrozen_instances + len(arrived),
                # The highest of its senders': one that is there and higher stays.
                priority=case(
                    (StudyRow.priority.in_(priorities), StudyRow.priority), else_=priorities[-1]
                ),
            )
        )


def _outcome(
    one: ReceivedInstance,
    first: Mapping[str, ReceivedInstance],
    new: set[str],
    known: Mapping[str, KnownInstance],
) -> Outcome:
    uid = one.registration.header.sop_instance_uid
    if uid in new:
        kept = first[uid]
        if kept is one:
            return Outcome.STORED
        digest, syntax = kept.data_digest, kept.registration.header.transfer_syntax_uid
    elif uid in known:
        digest, syntax = known[uid].data_digest, known[uid].transfer_syntax_uid
    else:
        raise ListenerError("An instance was neither new nor known.", retryable=True)
    # One JPEG 2000 stream can be sent in two syntaxes; the meta information differs then.
    same = (digest, syntax) == (one.data_digest, one.registration.header.transfer_syntax_uid)
    return Outcome.REPEATED if same else Outcome.CONFLICTING


def _find(connection: Connection, sop_instance_uids: Sequence[str]) -> dict[str, KnownInstance]:
    found: dict[str, KnownInstance] = {}
    for some in _portions(sop_instance_uids):
        rows = connection.execute(
            select(
                InstanceRow.sop_instance_uid,
                InstanceRow.data_digest,
                InstanceRow.transfer_syntax_uid,
                InstanceRow.store_key,
                InstanceRow.spooled_by,
            ).where(InstanceRow.sop_instance_uid.in_(some))
        )
        found.update({row[0]: KnownInstance(*row[1:]) for row in rows})
    return found


def _portions(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    # As many parameters as every database takes in one statement.
    for start in range(0, len(uids), _UIDS_AT_ONCE):
        yield uids[start : start + _UIDS_AT_ONCE]


def _add_members(connection: Connection, study_uid: str, number: int) -> int:
    all_instances = select(
        InstanceRow.study_uid, literal(number), InstanceRow.sop_instance_uid
    ).where(InstanceRow.study_uid == study_uid, InstanceRow.deleted_at.is_(None))
    columns = ["study_uid", "number", "sop_instance_uid"]
    connection.execute(insert(RevisionInstanceRow).from_select(columns, all_instances))
    members = select(func.count()).where(
        RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number
    )
    return connection.execute(members).scalar_one()


def _new_members(connection: Connection, study_uid: str, number: int) -> Any:
    """What no earlier revision has, or had before its image was removed and sent again."""
    earlier = (RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number - 1)
    frozen_with = select(RevisionInstanceRow.sop_instance_uid).where(*earlier)
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
        ).where(
            InstanceRow.study_uid == study_uid,
            InstanceRow.deleted_at.is_(None),
            or_(
                InstanceRow.sop_instance_uid.not_in(frozen_with),
                InstanceRow.received_at > received_before,
            ),
        )
    ).one()

"""What the listener writes into the database: instances, and revisions of them.

Every function is one transaction. On PostgreSQL the study's row is the lock between registering
and freezing; on SQLite there is one writer at a time anyway.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, literal, select, update
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
from services.listener.errors import ListenerError


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
        data_digest: SHA-256 of the data set as sent.
        peer: the calling AE title.
    """

    registration: Registration
    store_key: str
    size_bytes: int
    data_digest: str
    received_at: dt.datetime
    peer: str


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """An instance that is registered already."""

    data_digest: str
    transfer_syntax_uid: str
    store_key: str

    def is_same(self, data_digest: str, transfer_syntax_uid: str) -> bool:
        """Whether a data set offered under its UID is the one that was received.

        One JPEG 2000 stream can be sent in two syntaxes; the file's meta information differs then.
        """
        return (self.data_digest, self.transfer_syntax_uid) == (data_digest, transfer_syntax_uid)


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
        return _find(connection, sop_instance_uid)


def register_instance(engine: Engine, received: ReceivedInstance) -> Outcome:
    """Registers an instance with its series and study, once.

    An instance that is known already changes nothing: the first one received is kept.

    Raises:
        ListenerError: the database contradicts itself; nothing is registered.
    """
    header = received.registration.header
    # Without a commit everything is rolled back: no study or series without an instance.
    with engine.connect() as connection:
        _insert_new(connection, StudyRow, **_study_values(received))
        _insert_new(connection, SeriesRow, **_series_values(received))
        if _insert_new(connection, InstanceRow, **_instance_values(received)):
            connection.execute(
                update(StudyRow)
                .where(StudyRow.study_uid == header.study_uid)
                .values(
                    last_received_at=received.received_at,
                    unfrozen_instances=StudyRow.unfrozen_instances + 1,
                )
            )
            connection.commit()
            return Outcome.STORED
        known = _find(connection, header.sop_instance_uid)
    if known is None:
        raise ListenerError("An instance was neither new nor known.", retryable=True)
    same = known.is_same(received.data_digest, header.transfer_syntax_uid)
    return Outcome.REPEATED if same else Outcome.CONFLICTING


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
            receiving_since=new.since,
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


def unannounced_revisions(engine: Engine) -> list[tuple[str, int]]:
    """Frozen revisions that the orchestrator has not confirmed, oldest first."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(
            select(RevisionRow.study_uid, RevisionRow.number)
            .where(RevisionRow.state == RevisionState.FROZEN)
            .order_by(RevisionRow.frozen_at, RevisionRow.number)
        ).all()
    return [(study_uid, number) for study_uid, number in rows]


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
        "attributes": dict(received.registration.study_attributes),
    }


def _series_values(received: ReceivedInstance) -> dict[str, Any]:
    return {
        "series_uid": received.registration.header.series_uid,
        "study_uid": received.registration.header.study_uid,
        "attributes": dict(received.registration.series_attributes),
    }


def _instance_values(received: ReceivedInstance) -> dict[str, Any]:
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
        "header": header.as_json(),
    }


def _insert_new(connection: Connection, table: type[Base], **values: Any) -> bool:
    # False when a row with that key is there already.
    # (What the drivers report as rowcount differs; the returned row does not.)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
    key = class_mapper(table).primary_key
    return connection.execute(statement.returning(*key)).first() is not None


def _find(connection: Connection, sop_instance_uid: str) -> KnownInstance | None:
    row = connection.execute(
        select(
            InstanceRow.data_digest, InstanceRow.transfer_syntax_uid, InstanceRow.store_key
        ).where(InstanceRow.sop_instance_uid == sop_instance_uid)
    ).one_or_none()
    return None if row is None else KnownInstance(*row)


def _add_members(connection: Connection, study_uid: str, number: int) -> int:
    all_instances = select(
        InstanceRow.study_uid, literal(number), InstanceRow.sop_instance_uid
    ).where(InstanceRow.study_uid == study_uid)
    columns = ["study_uid", "number", "sop_instance_uid"]
    connection.execute(insert(RevisionInstanceRow).from_select(columns, all_instances))
    members = select(func.count()).where(
        RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number
    )
    return connection.execute(members).scalar_one()


def _new_members(connection: Connection, study_uid: str, number: int) -> Any:
    earlier = select(RevisionInstanceRow.sop_instance_uid).where(
        RevisionInstanceRow.study_uid == study_uid, RevisionInstanceRow.number == number - 1
    )
    return connection.execute(
        select(
            func.count().label("instances"),
            func.sum(InstanceRow.size_bytes).label("size_bytes"),
            func.min(InstanceRow.received_at).label("since"),
        ).where(InstanceRow.study_uid == study_uid, InstanceRow.sop_instance_uid.not_in(earlier))
    ).one()

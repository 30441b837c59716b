"""What the listener writes into the database of instances, their series and their studies.

Every function is one transaction. On PostgreSQL the study's row is the lock between registering
and freezing (`revisions`); on SQLite there is one writer at a time anyway.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Engine, case, exists, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import class_mapper

from services.common.database import Base, InstanceRow, SeriesRow, StudyRow
from services.common.headers import Registration
from services.listener.assembling.expectations import note_declared
from services.listener.door.admission import PRIORITIES
from services.listener.errors import ListenerError
from services.listener.registering.conflicts import Came, note_conflicts, touch_study

_UIDS_AT_ONCE = 512
# The drivers keep what they prepared for each statement, and every number of rows is a statement of
# its own: without this the process grew by 2 KB for each instance until they had seen them all.
_ROWS_AT_ONCE = 32


class Novelty(StrEnum):
    """What became of an instance that was offered."""

    STORED = "stored"
    REPEATED = "repeated"
    CONFLICTING = "conflicting"


@dataclass(frozen=True, slots=True)
class ReceivedInstance:
    """An instance whose file is synced.

    Attributes:
        data_digest: `door.part10.digest_text` of the data set as sent.
        peer: the calling AE title; priority, quiet_period_s and conflicts (what becomes of other
            bytes under a known UID): the sender's.
        receiving: whether an association is sending the instance; else the spool held it.
    """

    registration: Registration
    store_key: str
    size_bytes: int
    data_digest: str
    received_at: dt.datetime
    peer: str
    priority: str = "normal"
    quiet_period_s: float = 0.0
    conflicts: str = "keep_first"
    receiving: bool = False


@dataclass(frozen=True, slots=True)
class KnownInstance:
    """An instance that is registered already.

    Attributes:
        spooled_by: the listener in whose spool the file lies; None when it lies in the store.
        deleted_at: when retention removed the image; None while the image is there.
        header: as stored.
    """

    data_digest: str
    transfer_syntax_uid: str
    store_key: str
    spooled_by: str | None
    deleted_at: dt.datetime | None
    header: Mapping[str, Any]


def find_instance(engine: Engine, sop_instance_uid: str) -> KnownInstance | None:
    """The registered instance of that UID, if there is one."""
    with engine.execution_options(axial_readonly=True).connect() as connection:
        return _find(connection, [sop_instance_uid]).get(sop_instance_uid)


def register_instances(
    engine: Engine, batch: Sequence[ReceivedInstance], spooled_by: str
) -> list[Novelty]:
    """Registers instances with their series and studies, in one transaction.

    An instance that is known already changes nothing: the first one received is kept. An instance
    whose image was removed is new again, with whatever bytes it has now. Nothing is registered when
    this raises.

    Args:
        engine: the database.
        received: the instances.
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
        # Also those of conflicts: what was acknowledged is found under the study that it came in.
        _insert_missing(
            connection, StudyRow, [_study_values(studies[uid]) for uid in sorted(studies)]
        )
        _insert_missing(
            connection, SeriesRow, [_series_values(series[uid]) for uid in sorted(series)]
        )
        _mark_receiving(
            connection, {_series_uid(one) for one in batch if one.receiving}, spooled_by
        )
        new = _insert_missing(
            connection, InstanceRow, [_instance_values(one, spooled_by) for one in rows]
        )
        new |= _renew(connection, [one for one in rows if _uid(one) not in new], spooled_by)
        _count_new(connection, [first[uid] for uid in new])
        note_declared(connection, [first[uid].registration.header for uid in new])
        known = _find(connection, [uid for uid in first if uid not in new])
        novelties = [_novelty(one, first, new, known) for one in batch]
        conflicting = [
            one
            for one, novelty in zip(batch, novelties, strict=True)
            if novelty is Novelty.CONFLICTING
        ]
        note_conflicts(connection, _came(connection, conflicting, first, known))
    return novelties


def record_conflict(engine: Engine, one: ReceivedInstance) -> None:
    """Writes down that what has the digest of a registered instance has other bytes."""
    uid = _uid(one)
    with engine.begin() as connection:
        known = _find(connection, [uid])
        if uid in known:
            note_conflicts(connection, _came(connection, [one], {}, known))


def begin_to_restore(engine: Engine, one: ReceivedInstance, spooled_by: str) -> bool:
    """Notes that an image comes to the store once more whose file was lost or damaged there: its
    study is worked on anew, as soon as the file is there.

    Args:
        spooled_by: the listener in whose spool the file lies.

    Returns:
        Whether the file may go to the store: the instance has these bytes still, and no other file
        of the instance is on its way.
    """
    row = InstanceRow
    chosen = (
        row.sop_instance_uid == _uid(one),
        row.data_digest == one.data_digest,
        row.transfer_syntax_uid == one.registration.header.transfer_syntax_uid,
        row.deleted_at.is_(None),
    )
    with engine.begin() as connection:
        begun = connection.execute(
            update(row).where(*chosen, row.spooled_by.is_(None)).values(spooled_by=spooled_by)
        ).rowcount
        if begun:
            study_uid = one.registration.header.study_uid
            touch_study(connection, study_uid, one.received_at, changed=True)
            return True
        begun_before = exists().where(*chosen, row.spooled_by == spooled_by)
        return bool(connection.execute(select(begun_before)).scalar_one())


def _came(
    connection: Connection,
    conflicting: Sequence[ReceivedInstance],
    first: Mapping[str, ReceivedInstance],
    known: Mapping[str, KnownInstance],
) -> list[Came]:
    """What came, each with what is registered under its UID."""
    if not conflicting:
        return []
    kept = {
        uid: known[uid].header if uid in known else first[uid].registration.header.as_json()
        for uid in map(_uid, conflicting)
    }
    studies = sorted({str(header["study_uid"]) for header in kept.values()})
    rows = connection.execute(
        select(StudyRow.study_uid, StudyRow.attributes).where(StudyRow.study_uid.in_(studies))
    )
    patients = {study_uid: attributes for study_uid, attributes in rows}  # noqa: C416 - no pairs
    return [
        Came(
            registration=one.registration,
            digest=one.data_digest,
            peer=one.peer,
            at=one.received_at,
            kept=kept[_uid(one)],
            kept_patient=patients[kept[_uid(one)]["study_uid"]],
        )
        for one in conflicting
    ]


def mark_in_store(engine: Engine, sop_instance_uids: Sequence[str]) -> None:
    """Notes that the files of these instances lie in the study store."""
    with engine.begin() as connection:
        for some in _portions(sop_instance_uids):
            connection.execute(
                update(InstanceRow)
                .where(InstanceRow.sop_instance_uid.in_(some))
                .values(spooled_by=None)
            )


def _study_values(received: ReceivedInstance) -> dict[str, Any]:
    return {
        "study_uid": received.registration.header.study_uid,
        "first_received_at": received.received_at,
        "last_received_at": received.received_at,
        "unfrozen_instances": 0,
        "newest_revision": 0,
        "priority": received.priority,
        "quiet_period_s": received.quiet_period_s,
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
    found = connection.execute(
        statement,
        [dict(row) for row in rows],
        execution_options={"insertmanyvalues_page_size": _ROWS_AT_ONCE},
    )
    return set(found.scalars())


def _renew(connection: Connection, known: Sequence[ReceivedInstance], spooled_by: str) -> set[str]:
    """Registers instances anew whose images were removed; returns their UIDs.

    On PostgreSQL this waits while a removal holds the row: what it deletes is the old object.
    """
    again: set[str] = set()
    for one in known:
        values = _instance_values(one, spooled_by)
        # Under another study or series too; not before the object of the old key is gone.
        removed = exists().where(
            StudyRow.study_uid == InstanceRow.study_uid, StudyRow.deletion_pending.is_(False)
        )
        registered = connection.execute(
            update(InstanceRow)
            .where(
                InstanceRow.sop_instance_uid == values["sop_instance_uid"],
                InstanceRow.deleted_at.is_not(None),
                or_(InstanceRow.store_key == values["store_key"], removed),
            )
            .values(**values, deleted_at=None)
            .returning(InstanceRow.sop_instance_uid)
        )
        again.update(registered.scalars())
    return again


def _uid(received: ReceivedInstance) -> str:
    return received.registration.header.sop_instance_uid


def _series_uid(received: ReceivedInstance) -> str:
    return received.registration.header.series_uid


def _mark_receiving(connection: Connection, series_uids: Collection[str], listener: str) -> None:
    """Notes that a listener is receiving these series (`assembling.endings` notes their ends)."""
    row = SeriesRow
    for series_uid in sorted(series_uids):
        connection.execute(
            update(row)
            .where(
                row.series_uid == series_uid,
                or_(row.receiving_by.is_(None), row.receiving_by != listener),
            )
            .values(receiving_by=listener)
        )


def _count_new(connection: Connection, new: Sequence[ReceivedInstance]) -> None:
    by_study: dict[str, list[ReceivedInstance]] = {}
    for one in new:
        by_study.setdefault(one.registration.header.study_uid, []).append(one)
    for study_uid in sorted(by_study):
        arrived = by_study[study_uid]
        quiet_period_s = max(one.quiet_period_s for one in arrived)
        latest = literal(max(one.received_at for one in arrived), StudyRow.last_received_at.type)
        priorities = PRIORITIES[: min(PRIORITIES.index(one.priority) for one in arrived) + 1]
        connection.execute(
            update(StudyRow)
            .where(StudyRow.study_uid == study_uid)
            .values(
                # What lay in a spool is registered later than what came after it.
                last_received_at=case(
                    (StudyRow.last_received_at > latest, StudyRow.last_received_at), else_=latest
                ),
                unfrozen_instances=StudyRow.unfrozen_instances + len(arrived),
                # The highest of its senders': one that is there and higher stays.
                priority=case(
                    (StudyRow.priority.in_(priorities), StudyRow.priority), else_=priorities[-1]
                ),
                quiet_period_s=case(
                    (StudyRow.quiet_period_s > quiet_period_s, StudyRow.quiet_period_s),
                    else_=quiet_period_s,
                ),
            )
        )


def _novelty(
    one: ReceivedInstance,
    first: Mapping[str, ReceivedInstance],
    new: set[str],
    known: Mapping[str, KnownInstance],
) -> Novelty:
    uid = one.registration.header.sop_instance_uid
    if uid in new:
        kept = first[uid]
        if kept is one:
            return Novelty.STORED
        digest, syntax = kept.data_digest, kept.registration.header.transfer_syntax_uid
    elif uid in known:
        digest, syntax = known[uid].data_digest, known[uid].transfer_syntax_uid
    else:
        raise ListenerError("An instance was neither new nor known.", retryable=True)
    # One JPEG 2000 stream can be sent in two syntaxes; the meta information differs then.
    same = (digest, syntax) == (one.data_digest, one.registration.header.transfer_syntax_uid)
    return Novelty.REPEATED if same else Novelty.CONFLICTING


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
                InstanceRow.deleted_at,
                InstanceRow.header,
            ).where(InstanceRow.sop_instance_uid.in_(some))
        )
        found.update({row[0]: KnownInstance(*row[1:]) for row in rows})
    return found


def _portions(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    # As many parameters as every database takes in one statement; the last one again and again, so
    # that there are few different statements.
    for start in range(0, len(uids), _UIDS_AT_ONCE):
        some = uids[start : start + _UIDS_AT_ONCE]
        yield [*some, *[some[-1]] * (-len(some) % _ROWS_AT_ONCE)]

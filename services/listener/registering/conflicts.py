"""Conflicts: other bytes under the SOP Instance UID of an instance that is registered.

Each is a row from the transaction that registered the batch in which it came: study and series as
they were sent, what differs, how often it came. A study of which nothing else came is known by it.
What has to be read of files, their pixels, is added when its own file is kept beside the instance.

Two images of one series under one UID are a matter of that series: it lacks one of them, and is
refused by name until somebody decides (`among_own`). They are told from two versions of one image
by where they belong in the series, and by their pixels while the series is in no revision yet.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, case, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from services.common.database import ConflictRow, RevisionInstanceRow, StudyRow
from services.common.database.conflicts import about
from services.common.headers import AttributeValue, Registration
from services.common.lifecycle import ConflictState

PATIENT, UIDS, PLACE, PIXELS, ATTRIBUTES = "patient", "uids", "place", "pixels", "attributes"
_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex")
# Which image of its series it is.
_PLACE = (
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "EchoNumbers",
    "EchoTime",
    "TemporalPositionIdentifier",
    "AcquisitionNumber",
    "DiffusionBValue",
)


@dataclass(frozen=True, slots=True)
class Came:
    """What came, and what is registered under its UID.

    Attributes:
        registration: its own; digest: of its data set.
        kept, kept_patient: the registered instance's header as stored, and its study's attributes.
    """

    registration: Registration
    digest: str
    peer: str
    at: dt.datetime
    kept: Mapping[str, Any]
    kept_patient: Mapping[str, AttributeValue]

    @property
    def same_series(self) -> bool:
        """Whether the bytes were sent under the study and series of the instance."""
        header = self.registration.header
        return (header.study_uid, header.series_uid) == (
            self.kept["study_uid"],
            self.kept["series_uid"],
        )

    @property
    def differs(self) -> list[str]:
        """What differs, as far as the heads tell."""
        header, study = self.registration.header, self.registration.study_attributes
        kept: Mapping[str, AttributeValue] = self.kept["attributes"]
        other = {
            keyword
            for keyword in header.attributes.keys() | kept.keys()
            if header.attributes.get(keyword) != kept.get(keyword)
        }
        found = {
            PATIENT: any(study.get(each) != self.kept_patient.get(each) for each in _PATIENT),
            UIDS: not self.same_series,
            PLACE: not other.isdisjoint(_PLACE),
            ATTRIBUTES: bool(other.difference(_PLACE)),
        }
        return [name for name, differs in found.items() if differs]


def note_conflicts(connection: Connection, came: Sequence[Came]) -> None:
    """Writes conflicts down, in the transaction that registers what came with them."""
    if not came:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    new = dialect.insert(ConflictRow)
    statement = new.on_conflict_do_update(
        index_elements=["sop_instance_uid", "data_digest", "transfer_syntax_uid"],
        set_={
            "times": ConflictRow.times + 1,
            "last_received_at": new.excluded.last_received_at,
        },
    )
    for one in came:  # one by one: the same may be among them twice
        header, differs = one.registration.header, one.differs
        among_own = one.same_series and PLACE in differs
        known = connection.execute(select(ConflictRow.state).where(*_key(one))).scalar_one_or_none()
        connection.execute(
            statement,
            {
                "sop_instance_uid": header.sop_instance_uid,
                "data_digest": one.digest,
                "transfer_syntax_uid": header.transfer_syntax_uid,
                "study_uid": header.study_uid,
                "series_uid": header.series_uid,
                "sop_class_uid": header.sop_class_uid,
                "kept_study_uid": one.kept["study_uid"],
                "kept_series_uid": one.kept["series_uid"],
                "differs": differs,
                "among_own": among_own,
                "state": ConflictState.OPEN,
                "times": 1,
                "peer": one.peer,
                "received_at": one.at,
                "last_received_at": one.at,
            },
        )
        touch_study(connection, header.study_uid, one.at, changed=among_own and known is None)


def touch_study(connection: Connection, study_uid: str, at: dt.datetime, *, changed: bool) -> None:
    """Notes that something of a study came.

    Args:
        connection: in whose transaction.
        study_uid: the study.
        at: when.
        changed: whether that changed what is known of the study, so that its next revision is to be
            frozen.
    """
    row = StudyRow
    values: dict[str, Any] = {
        "last_received_at": case((row.last_received_at > at, row.last_received_at), else_=at)
    }
    if changed:
        values["unfrozen_instances"] = row.unfrozen_instances + 1
    connection.execute(update(row).where(row.study_uid == study_uid).values(**values))


def note_kept_beside(
    engine: Engine,
    key: tuple[str, str, str],
    store_key: str,
    *,
    other_pixels: bool,
    versions: bool = False,
) -> bool:
    """Notes where a conflict's bytes lie, and whether their pixels are others.

    Args:
        key: of the conflict's row: SOP Instance UID, digest, transfer syntax.
        store_key: where the bytes lie.
        other_pixels: whether the conflict's pixels differ from the instance's.
        versions: the conflict is the same image as the instance, and one of both was cut off.

    Returns:
        Whether the conflict turns out to be a matter of its own series (`among_own`).
    """
    uid, digest, syntax = key
    chosen = and_(
        ConflictRow.sop_instance_uid == uid,
        ConflictRow.data_digest == digest,
        ConflictRow.transfer_syntax_uid == syntax,
    )
    with engine.begin() as connection:
        row = connection.execute(select(ConflictRow.__table__).where(chosen)).one_or_none()
        if row is None:
            return False
        differs = [*row.differs, PIXELS] if other_pixels else list(row.differs)
        own = row.study_uid == row.kept_study_uid and row.series_uid == row.kept_series_uid
        frozen = connection.execute(
            select(exists().where(RevisionInstanceRow.sop_instance_uid == uid))
        ).scalar_one()
        still_open = row.state == ConflictState.OPEN
        among_own = row.among_own or (
            own and other_pixels and still_open and not frozen and not versions
        )
        values: dict[str, Any] = {"among_own": among_own}
        if row.state in (ConflictState.OPEN, ConflictState.KEPT, ConflictState.TAKING):
            values["store_key"] = store_key
        if row.store_key is None:
            values["differs"] = differs or [ATTRIBUTES]
        connection.execute(update(ConflictRow).where(chosen).values(**values))
        newly = among_own and not row.among_own
        if newly:
            touch_study(connection, row.study_uid, row.last_received_at, changed=True)
    return newly


def decide(engine: Engine, uid: str, *, latest: bool, at: dt.datetime) -> tuple[int, set[str]]:
    """Decides open conflicts that concern a study, a series or an instance.

    Args:
        uid: of a study or series, as sent or of the instances, or of an instance.
        latest: of each instance, what came last takes the instance's place (as soon as its bytes
            are there); else the first stays.

    Returns:
        How many conflicts were decided, and the studies whose next revision is to be frozen.
    """
    with engine.begin() as connection:
        rows = connection.execute(
            select(ConflictRow.__table__)
            .where(about(uid), ConflictRow.state.in_(_decidable(latest)))
            .order_by(ConflictRow.last_received_at)
        ).all()
        last = {row.sop_instance_uid: row for row in rows}
        changed: set[str] = set()
        decided = 0
        for row in rows:
            takes = latest and last[row.sop_instance_uid] is row
            state = ConflictState.TAKING if takes else ConflictState.KEPT
            done = connection.execute(
                update(ConflictRow)
                # Somebody else may have decided, and it may be done, since they were read.
                .where(*_row_key(row), ConflictRow.state.in_(_decidable(latest)))
                .values(state=state, resolved_at=None if takes else at)
            ).rowcount
            decided += done
            if done and row.among_own and not takes:
                changed.add(row.study_uid)
        for study_uid in sorted(changed):
            touch_study(connection, study_uid, at, changed=True)
    return decided, changed


def begin_to_take(engine: Engine, key: tuple[str, str, str]) -> bool:
    """Decides, by the peer's policy, that one open conflict takes the instance's place. False where
    the conflict is no longer open, or a matter of its own series.
    """
    uid, digest, syntax = key
    with engine.begin() as connection:
        done = connection.execute(
            update(ConflictRow)
            .where(
                ConflictRow.sop_instance_uid == uid,
                ConflictRow.data_digest == digest,
                ConflictRow.transfer_syntax_uid == syntax,
                ConflictRow.state == ConflictState.OPEN,
                ConflictRow.among_own.is_(False),
            )
            .values(state=ConflictState.TAKING)
        )
    return bool(done.rowcount)


def _decidable(latest: bool) -> list[ConflictState]:
    return [ConflictState.OPEN, *([ConflictState.KEPT] if latest else [])]


def _key(one: Came) -> tuple[ColumnElement[bool], ...]:
    header = one.registration.header
    return (
        ConflictRow.sop_instance_uid == header.sop_instance_uid,
        ConflictRow.data_digest == one.digest,
        ConflictRow.transfer_syntax_uid == header.transfer_syntax_uid,
    )


def _row_key(row: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        ConflictRow.sop_instance_uid == row.sop_instance_uid,
        ConflictRow.data_digest == row.data_digest,
        ConflictRow.transfer_syntax_uid == row.transfer_syntax_uid,
    )

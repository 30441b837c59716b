"""A conflict becomes its instance: what was kept beside takes the place, and the other way round.

Somebody decided so, or the peer's policy did. The row changes first: from then on it says that its
file is not in the store yet, so that no revision with it is worked on, and whoever read the old
bytes finds another digest. Then the bytes change places; nothing is deleted before what is to stay
was looked at. Whatever is interrupted is done again from the rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, and_, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from services.common.crashpoints import crashpoint
from services.common.database import ConflictRow, InstanceRow, SeriesRow, StudyRow, utc_now
from services.common.headers import Registration, read_registration
from services.common.identity import hashed
from services.common.lifecycle import ConflictState
from services.common.store import FileCopy, ObjectMissing, StudyStore, conflict_key, instance_key
from services.common.store.letting_go import NoOtherCopy
from services.common.telemetry import get_logger
from services.listener.registering.arrivals import StoredInstance
from services.listener.registering.conflicts import touch_study
from services.listener.registering.displaced import content_digest
from services.listener.wheel import Wheel

_log = get_logger("listener")

# The wheel's one key: all that is decided and not done.
_ALL = "taking"
# What is kept beside is on its way to the store yet; what another listener has as well.
_LOOK_AGAIN_S = 2.0
# Of the advisory lock under which one listener at a time does this; any number that is ours alone.
_LOCK = 0x41584C5245534F4C
_PIECE_BYTES = 1 << 20
# No listener's name: no other part takes the row's file for its own.
_ON_ITS_WAY = "(taking)"


class Resolving:
    """Has conflicts become their instances; a context manager that owns a thread.

    Args:
        on_changed: called with the instances that have other bytes now.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        on_changed: Callable[[Sequence[StoredInstance]], None],
        clock: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        self._engine = engine
        self._store = store
        self._on_changed = on_changed
        self._clock = clock
        self._wheel: Wheel[str] = Wheel("resolving", lambda _: self.carry_out())

    def __enter__(self) -> Resolving:
        self._wheel.__enter__()
        self._wheel.arm(_ALL, 0.0)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends after the one under way; the rest is done at the next start."""
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._wheel.alive()

    def soon(self) -> None:
        """Has the decided conflicts carried out, in the thread."""
        self._wheel.arm(_ALL, 0.0)

    def carry_out(self) -> None:
        """Has every decided conflict become its instance.

        Raises:
            SQLAlchemyError, StoreError, OSError: the call is to be repeated.
        """
        with self._alone() as alone:
            done = alone and self._carry_out_each(self._decided())
        if not done:
            self._wheel.arm(_ALL, _LOOK_AGAIN_S)

    def _decided(self) -> Sequence[Any]:
        with self._engine.execution_options(axial_readonly=True).connect() as connection:
            return connection.execute(
                select(ConflictRow.__table__)
                .where(ConflictRow.state == ConflictState.TAKING)
                .order_by(ConflictRow.last_received_at)
            ).all()

    def _carry_out_each(self, rows: Sequence[Any]) -> bool:
        """Whether all of them were taken; one that cannot be keeps no other from it."""
        done = True
        problem: Exception | None = None
        for row in rows:
            if self._wheel.stopping():
                break
            try:
                done = self._take(row) and done
            except Exception as error:  # noqa: BLE001 - raised when the others were taken
                problem = problem or error
        if problem is not None:
            raise problem
        return done

    @contextmanager
    def _alone(self) -> Generator[bool]:
        """Whether no other listener does this, as long as the context lasts.

        Two that took one conflict at once would keep the wrong bytes beside it. A SQLite database
        has one listener.
        """
        if self._engine.dialect.name != "postgresql":
            yield True
            return
        with self._engine.begin() as connection:
            locked = select(func.pg_try_advisory_xact_lock(_LOCK))
            yield bool(connection.execute(locked).scalar_one())

    def _take(self, row: Any) -> bool:
        """Has one conflict become its instance; False while its bytes are not in the store."""
        if row.store_key is None:
            return False
        instance = self._instance(row)
        if instance.spooled_by not in (None, _ON_ITS_WAY):
            return False  # its own bytes would arrive in the place of what was taken
        changed = (instance.data_digest, instance.transfer_syntax_uid) == (
            row.data_digest,
            row.transfer_syntax_uid,
        )
        if not self._store.exists(row.store_key):
            if changed and self._store.size(instance.store_key) == instance.size_bytes:
                self._end(row, instance)  # it was interrupted before its last step
                return True
            return not changed and self._is_lost(row)
        if not changed and instance.spooled_by == _ON_ITS_WAY:
            return False  # another conflict takes this place, and was interrupted
        with self._store.local([row.store_key]) as found:
            return self._take_file(row, instance, found[row.store_key], changed=changed)

    def _take_file(self, row: Any, instance: Any, taken: Path, *, changed: bool) -> bool:
        with taken.open("rb") as file:
            registration = read_registration(file)
            size = file.seek(0, 2)
        header = registration.header
        key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
        if not changed:
            beside = self._keep_replaced(instance)
            crashpoint("listener.conflict.kept")
            with self._engine.begin() as connection:
                _note_replaced(connection, row, instance, beside)
                _change_instance(connection, row, registration, key, size, self._clock())
        crashpoint("listener.conflict.rows")
        self._store.put(key, _pieces(taken))
        for old, copy in (*self._replaced(row), (row.store_key, key)):
            if old != key:
                self._let_object_go(old, copy)
        crashpoint("listener.conflict.placed")
        self._end(row, instance)
        return True

    def _end(self, row: Any, instance: Any) -> None:
        with self._engine.begin() as connection:
            _finish(connection, row, self._clock())
        _log.info("conflict_taken", instance_uid_hash=hashed(row.sop_instance_uid))
        self._have_looked_at(row, row.study_uid, row.kept_study_uid, instance.study_uid)

    def _is_lost(self, row: Any) -> bool:
        """Puts a conflict back whose bytes somebody lost: its study waits for it no longer.

        Only of a folder can that be said: to another store they may be on their way.
        """
        if self._store.folder is None:
            return False
        with self._engine.begin() as connection:
            connection.execute(
                update(ConflictRow)
                .where(*_key(row))
                .values(state=ConflictState.OPEN, store_key=None)
            )
        _log.error("conflict_lost", instance_uid_hash=hashed(row.sop_instance_uid))
        self._have_looked_at(row, row.study_uid, row.kept_study_uid)
        return True

    def _have_looked_at(self, row: Any, *study_uids: str) -> None:
        self._on_changed(
            [
                StoredInstance(uid, row.series_uid, row.peer, 0.0)
                for uid in dict.fromkeys(study_uids)
            ]
        )

    def _instance(self, row: Any) -> Any:
        with self._engine.execution_options(axial_readonly=True).connect() as connection:
            return connection.execute(
                select(InstanceRow.__table__).where(
                    InstanceRow.sop_instance_uid == row.sop_instance_uid
                )
            ).one()

    def _keep_replaced(self, instance: Any) -> str | None:
        """Keeps the instance's bytes beside it; where, None when it has none any more."""
        try:
            with self._store.local([instance.store_key]) as found:
                file = found[instance.store_key]
                digest = content_digest(file, instance.transfer_syntax_uid)
                beside = conflict_key(instance.sop_instance_uid, digest)
                self._store.put(beside, _pieces(file))
        except ObjectMissing:
            return None
        return beside

    def _replaced(self, row: Any) -> list[tuple[str, str]]:
        """Where what the instance was lay, and where it is kept."""
        with self._engine.execution_options(axial_readonly=True).connect() as connection:
            rows = connection.execute(
                select(ConflictRow.study_uid, ConflictRow.series_uid, ConflictRow.store_key).where(
                    ConflictRow.sop_instance_uid == row.sop_instance_uid,
                    ConflictRow.state == ConflictState.REPLACED,
                    ConflictRow.store_key.is_not(None),
                )
            ).all()
        return [
            (instance_key(study_uid, series_uid, row.sop_instance_uid), str(kept))
            for study_uid, series_uid, kept in rows
        ]

    def _let_object_go(self, key: str, copy: str) -> None:
        """Removes an object of which another one holds the bytes."""
        if not self._store.exists(key):
            return
        with self._store.local([key, copy]) as found:
            if not FileCopy(found[copy]).stands_for(found[key]):
                raise NoOtherCopy
        self._store.delete([key])


def _note_replaced(connection: Connection, row: Any, instance: Any, beside: str | None) -> None:
    """What the instance was is a conflict with what it becomes."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    values: dict[str, Any] = {
        "study_uid": instance.study_uid,
        "series_uid": instance.series_uid,
        "kept_study_uid": row.study_uid,
        "kept_series_uid": row.series_uid,
        "state": ConflictState.REPLACED,
        "among_own": False,
        "store_key": beside,
    }
    statement = dialect.insert(ConflictRow).values(
        sop_instance_uid=instance.sop_instance_uid,
        data_digest=instance.data_digest,
        transfer_syntax_uid=instance.transfer_syntax_uid,
        sop_class_uid=instance.sop_class_uid,
        differs=row.differs,
        times=1,
        peer=instance.peer,
        received_at=instance.received_at,
        last_received_at=instance.received_at,
        **values,
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["sop_instance_uid", "data_digest", "transfer_syntax_uid"], set_=values
        )
    )
    # Others that wait are conflicts with what it becomes, too.
    connection.execute(
        update(ConflictRow)
        .where(
            ConflictRow.sop_instance_uid == instance.sop_instance_uid,
            ConflictRow.state.in_((ConflictState.OPEN, ConflictState.TAKING)),
            ~and_(*_key(row)),
        )
        .values(kept_study_uid=row.study_uid, kept_series_uid=row.series_uid)
    )


def _change_instance(
    connection: Connection,
    row: Any,
    registration: Registration,
    key: str,
    size: int,
    now: dt.datetime,
) -> None:
    """The instance is another one from here on; its bytes are on their way."""
    header = registration.header
    kept = connection.execute(
        select(InstanceRow.study_uid)
        .where(InstanceRow.sop_instance_uid == row.sop_instance_uid)
        .with_for_update()
    ).scalar_one()
    connection.execute(
        update(InstanceRow)
        .where(InstanceRow.sop_instance_uid == row.sop_instance_uid)
        .values(
            series_uid=header.series_uid,
            study_uid=header.study_uid,
            sop_class_uid=header.sop_class_uid,
            transfer_syntax_uid=header.transfer_syntax_uid,
            store_key=key,
            size_bytes=size,
            data_digest=row.data_digest,
            received_at=now,
            peer=row.peer,
            spooled_by=_ON_ITS_WAY,
            deleted_at=None,
            header=header.as_json(),
        )
    )
    study, series = registration.study_attributes, registration.series_attributes
    connection.execute(
        update(StudyRow)
        .where(StudyRow.study_uid == header.study_uid)
        .values(attributes=dict(study))
    )
    connection.execute(
        update(SeriesRow)
        .where(SeriesRow.series_uid == header.series_uid)
        .values(attributes=dict(series))
    )
    for study_uid in sorted({kept, header.study_uid}):
        touch_study(connection, study_uid, now, changed=True)


def _finish(connection: Connection, row: Any, now: dt.datetime) -> None:
    connection.execute(
        update(InstanceRow)
        .where(
            InstanceRow.sop_instance_uid == row.sop_instance_uid,
            InstanceRow.spooled_by == _ON_ITS_WAY,
        )
        .values(spooled_by=None)
    )
    connection.execute(
        update(ConflictRow)
        .where(*_key(row))
        .values(state=ConflictState.TAKEN, store_key=None, resolved_at=now)
    )


def _key(row: Any) -> tuple[ColumnElement[bool], ...]:
    return (
        ConflictRow.sop_instance_uid == row.sop_instance_uid,
        ConflictRow.data_digest == row.data_digest,
        ConflictRow.transfer_syntax_uid == row.transfer_syntax_uid,
    )


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(_PIECE_BYTES):
            yield piece

"""From instances that lie in a spool to rows of the database and objects of the store.

What is offered here was acknowledged, or is about to be: it is on disk. It is registered in
batches, one transaction for as many as wait, then taken into the store. An instance that comes
twice with the same bytes is counted once; other bytes under its UID are kept beside it and flagged.
Nothing that was offered is given up: while the database or the store does not answer, it waits in
the spool.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.headers import (
    HeaderError,
    InstanceHeader,
    Registration,
    read_registration,
)
from services.common.identity import hashed
from services.common.store import StoreError, StudyStore, conflict_key, instance_key
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import BYTES_RECEIVED, INSTANCES_RECEIVED, QUEUE_DEPTH
from services.listener.backoff import backoff_s
from services.listener.door.part10 import META_BYTES
from services.listener.door.spool import SpooledFile
from services.listener.quarantine import Quarantine
from services.listener.registry import (
    Outcome,
    ReceivedInstance,
    find_instance,
    mark_in_store,
    register_instances,
)

_log = get_logger("listener")

# One transaction's worth; more wait for the next one.
_BATCH = 256
# How long the first of a batch waits for others, unless somebody waits for it: a transaction costs
# as much CPU as registering twenty instances.
_GATHER_S = 0.05
# So many may wait before whoever offers has to: the spool, not memory, is where instances wait.
_MOST_WAITING = 4096


@dataclass(frozen=True, slots=True)
class Offered:
    """An instance in a spool.

    Attributes:
        registration: its head; None has it read from the file (character sets beyond the door).
        peer: the peer's name in the settings; priority: the peer's.
    """

    file: SpooledFile
    registration: Registration | None
    peer: str
    priority: str = "normal"

    @classmethod
    def from_message(cls, told: dict[str, Any]) -> Offered:
        """From what a receiver tells of an instance."""
        file = SpooledFile.from_json(told["file"])
        return cls(file, registration_of(file, told["scanned"]), told["peer"], told["priority"])


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that was registered just now."""

    study_uid: str
    series_uid: str
    peer: str
    quiet_period_s: float


@dataclass(frozen=True, slots=True)
class Decided:
    """An instance whose row was decided; its file is to be brought where it belongs."""

    offered: Offered
    received: ReceivedInstance
    outcome: Outcome

    @property
    def uid(self) -> str:
        """Its SOP instance UID."""
        return self.received.registration.header.sop_instance_uid

    @property
    def path(self) -> Path:
        """Its file in the spool."""
        return Path(self.offered.file.path)

    @property
    def stored(self) -> StoredInstance:
        """What assembly hears of it."""
        header = self.received.registration.header
        quiet_period_s = self.received.quiet_period_s
        return StoredInstance(
            header.study_uid, header.series_uid, self.offered.peer, quiet_period_s
        )


class Registrar:
    """Registers what is offered; a context manager that owns a thread.

    Args:
        quarantine: where files go that are no instances.
        listener_id: this listener's name, under which rows say that a file is in its spool.
        ship: takes (sop instance uid, key, file) of registered instances when the store is not a
            folder of this machine, and marks them when they are there; None moves them at once.
        on_stored: called with the new instances of a batch.
        quiet_period_s: gives a peer's.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        quarantine: Quarantine,
        listener_id: str,
        on_stored: Callable[[Sequence[StoredInstance]], None],
        ship: Callable[[Sequence[tuple[str, str, Path]]], None] | None = None,
        *,
        quiet_period_s: Callable[[str], float],
    ) -> None:
        self._engine = engine
        self._store = store
        self._quarantine = quarantine
        self._listener_id = listener_id
        self._on_stored = on_stored
        self._ship = ship
        self._quiet_period_s = quiet_period_s
        self._waiting: deque[Offered] = deque()
        self._unplaced: list[Decided] = []  # the thread's own
        self._changed = threading.Condition()
        self._offered = 0
        self._done = 0
        self._stopped = False
        self._urgent = False
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def __enter__(self) -> Registrar:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Registers what waits, unless the database is in trouble: the spool keeps that."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()

    def offer(self, offered: Offered) -> None:
        """Has it registered; waits only while very many are waiting already."""
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._stopped:
                self._changed.wait()
            self._waiting.append(offered)
            self._offered += 1
            if len(self._waiting) in (1, _BATCH):
                self._changed.notify_all()

    def hurry(self) -> None:
        """Has what waits registered at once: no more of it is on its way."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything offered before this call is registered; False when it is not."""
        with self._changed:
            wanted = self._offered
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= wanted, timeout_s)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def problem(self) -> str | None:
        """What keeps instances from being registered; None when nothing does."""
        return self._trouble

    def _run(self) -> None:
        failures = 0
        while True:
            with self._changed:
                while not self._waiting and not self._stopped and not self._unplaced:
                    self._changed.wait()
                if self._stopped and (failures or not self._waiting):
                    return
                self._changed.wait_for(self._is_urgent, _GATHER_S)
                self._urgent = False
                batch = [self._waiting[n] for n in range(min(_BATCH, len(self._waiting)))]
            trouble: Exception | None = None
            try:
                self._register(batch)
            except SQLAlchemyError as error:
                trouble, batch = error, []
            trouble = self._place() or trouble
            with self._changed:
                for _ in batch:
                    self._waiting.popleft()
                self._done += len(batch)
                QUEUE_DEPTH.labels("registrar").set(len(self._waiting))
                self._changed.notify_all()
                failures = 0 if trouble is None else failures + 1
                self._note(trouble, failures)
                if trouble is not None:
                    self._changed.wait_for(lambda: self._stopped, backoff_s(failures, 0.5))

    def _is_urgent(self) -> bool:
        return self._urgent or self._stopped or len(self._waiting) >= _BATCH

    def _note(self, trouble: Exception | None, failures: int) -> None:
        if trouble is None:
            self._trouble = None
            return
        if self._ship is not None and isinstance(trouble, StoreError):
            return  # a store that is away is shipping's to tell; instances are received all the same
        # The text may hold values of the header: its kind only.
        self._trouble = f"Instances wait in the spool: {type(trouble).__name__}."
        if failures == 1:
            _log.error("registering_failed", problem=type(trouble).__name__)

    def _register(self, batch: list[Offered]) -> None:
        received = [one for one in map(self._received, batch) if one is not None]
        try:
            outcomes = self._outcomes([one for _, one in received])
        except (DBAPIError, ValueError) as error:
            if isinstance(error, DBAPIError) and not _is_about_values(error):
                raise
            outcomes = self._one_by_one(received)
        crashpoint("listener.instance.registered")
        decided = [
            Decided(offered, one, outcome)
            for (offered, one), outcome in zip(received, outcomes, strict=True)
            if outcome is not None
        ]
        self._unplaced += decided
        self._count(decided)

    def _count(self, decided: Sequence[Decided]) -> None:
        new = [one for one in decided if one.outcome is Outcome.STORED]
        for one in new:
            INSTANCES_RECEIVED.labels(Outcome.STORED).inc()
            BYTES_RECEIVED.inc(one.offered.file.data_bytes)
        if new:
            self._on_stored([one.stored for one in new])

    def _received(self, offered: Offered) -> tuple[Offered, ReceivedInstance] | None:
        file = offered.file
        path = Path(file.path)
        if not path.exists():  # it was offered twice: by its receiver and after that one's death
            return None
        try:
            registration = offered.registration or _read(path)
            header = registration.header
            key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
        except (HeaderError, StoreError, OSError) as error:
            self._put_aside(path, type(error).__name__)
            return None
        return offered, ReceivedInstance(
            registration=registration,
            store_key=key,
            size_bytes=file.data_bytes + META_BYTES,
            data_digest=file.data_digest,
            received_at=dt.datetime.fromtimestamp(file.received_at, dt.UTC),
            peer=file.meta.peer,
            priority=offered.priority,
            quiet_period_s=self._quiet_period_s(offered.peer),
        )

    def _outcomes(self, received: list[ReceivedInstance]) -> list[Outcome | None]:
        return list(register_instances(self._engine, received, self._listener_id))

    def _one_by_one(self, received: list[tuple[Offered, ReceivedInstance]]) -> list[Outcome | None]:
        """What one instance's values make the database refuse must not keep the others waiting."""
        outcomes: list[Outcome | None] = []
        for offered, one in received:
            try:
                outcomes += self._outcomes([one])
            except (DBAPIError, ValueError) as error:
                if isinstance(error, DBAPIError) and not _is_about_values(error):
                    raise
                self._put_aside(Path(offered.file.path), type(error).__name__)
                outcomes.append(None)
        return outcomes

    def _put_aside(self, file: Path, problem: str) -> None:
        self._quarantine.put(file, "unreadable_instance", problem)
        INSTANCES_RECEIVED.labels("quarantined").inc()

    def _place(self) -> Exception | None:
        """Brings registered instances into the store; those it refuses stay for the next time."""
        refused: list[Decided] = []
        trouble: Exception | None = None
        stored: list[Decided] = []
        for one in self._unplaced:
            try:
                if one.outcome is Outcome.STORED or self._is_on_its_way(one):
                    stored.append(one)
            except (StoreError, SQLAlchemyError, OSError) as error:
                refused.append(one)
                trouble = error
        try:
            self._bring(stored)
        except (StoreError, SQLAlchemyError, OSError) as error:
            refused += stored
            trouble = error
        self._unplaced = refused
        return trouble

    def _bring(self, stored: list[Decided]) -> None:
        there = [one for one in stored if one.path.exists()]
        if self._ship is not None:
            self._ship([(one.uid, one.received.store_key, one.path) for one in there])
        elif stored:
            # The row decided that these bytes are the instance: they replace what a crash left.
            files = [(one.received.store_key, one.path) for one in there]
            self._store.put_files(files, replace=True)
            mark_in_store(self._engine, [one.uid for one in stored])

    def _is_on_its_way(self, one: Decided) -> bool:
        """Whether an instance that was registered before is to be brought into the store.

        It is when that one is not there yet: this is its file, found after a crash, or the same
        once more; whichever reaches the store stands for both. Else it is dealt with here: the
        same bytes are removed, other bytes kept beside the first.
        """
        if not one.path.exists():
            return False
        outcome = one.outcome
        if outcome is Outcome.REPEATED:
            known = find_instance(self._engine, one.uid)
            if known is None or known.spooled_by is not None:
                INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc()
                return True
            outcome = self._compared(one, known.store_key)
        if outcome is Outcome.CONFLICTING:
            self._keep_beside(one)
        INSTANCES_RECEIVED.labels(outcome).inc()
        return False

    def _compared(self, one: Decided, kept_key: str) -> Outcome:
        """What an instance is whose digest is that of the one in the store: bytes decide."""
        if self._store.size(kept_key) is None:  # somebody lost it
            self._store.put_file(kept_key, one.path)
            return Outcome.REPEATED
        with self._store.local([kept_key]) as kept:
            if not _same_data(kept[kept_key], one.path):
                return Outcome.CONFLICTING
        one.path.unlink(missing_ok=True)
        return Outcome.REPEATED

    def _keep_beside(self, one: Decided) -> None:
        # PS3.4 B.2.3 leaves duplicates to us: the first one received stays the one that is used.
        # The sender may drop its copy after the success, so that this one is kept beside it.
        received, header = one.received, one.received.registration.header
        key = conflict_key(one.uid, received.data_digest)
        if self._ship is not None:
            self._ship([(one.uid, key, one.path)])
        else:
            self._store.put_files([(key, one.path)], replace=True)
        _log.warning(
            "instance_conflicting",
            instance_uid_hash=hashed(one.uid),
            digest=received.data_digest,
            peer=received.peer,
        )
        audit(
            AuditEvent.INSTANCE_CONFLICTING,
            peer=one.offered.peer,
            ae_title=received.peer,
            study_uid=header.study_uid,
            instances={header.sop_class_uid: 1},
        )


def registration_of(file: SpooledFile, scanned: dict[str, Any]) -> Registration | None:
    """The records that a receiver scanned; None where it left them to the library."""
    records = scanned["records"]
    if records is None:
        return None
    uids, offset = scanned["uids"], scanned["pixel_offset"]
    header = InstanceHeader(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=file.meta.transfer_syntax_uid,
        attributes=records["header"],
        pixel_offset=None if offset is None else META_BYTES + offset,
        pixel_length=scanned["pixel_length"],
    )
    return Registration(header, records["study"], records["series"])


def _read(path: Path) -> Registration:
    with path.open("rb") as file:
        return read_registration(file)


def _same_data(kept: Path, file: Path) -> bool:
    # What stands before the data set may differ: another peer sent it.
    if kept.stat().st_size != file.stat().st_size:
        return False
    with kept.open("rb") as one, file.open("rb") as other:
        one.seek(META_BYTES)
        other.seek(META_BYTES)
        while chunk := one.read(1 << 20):
            if chunk != other.read(1 << 20):
                return False
    return True


def _is_about_values(error: DBAPIError) -> bool:
    # Data and integrity errors are about what is written; operational ones about the database.
    return isinstance(error, (DataError, IntegrityError))

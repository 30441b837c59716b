"""From the spool into the store, when the rows have decided what an instance is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.identity import hashed
from services.common.store import StoreError, StudyStore, conflict_key
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import INSTANCES_RECEIVED
from services.listener.arrivals import Decided
from services.listener.door.part10 import META_BYTES
from services.listener.registry import Outcome, find_instance, mark_in_store

_log = get_logger("listener")

# Takes (SOP instance UID, key, file).
Ship = Callable[[Sequence[tuple[str, str, Path]]], None]


class Placing:
    """Files of instances whose rows are decided, on their way to where they belong.

    For one thread. What it holds is in the spool too: a crash loses nothing.

    Args:
        ship: where the store is not a folder of this machine; it marks the rows when the files are
            there. None moves them at once.
    """

    def __init__(self, engine: Engine, store: StudyStore, ship: Ship | None) -> None:
        self._engine = engine
        self._store = store
        self._ship = ship
        self._unplaced: list[Decided] = []

    def add(self, decided: Sequence[Decided]) -> None:
        """More of them."""
        self._unplaced += decided

    def waiting(self) -> bool:
        """Whether the store refused some the last time, or some were not tried yet."""
        return bool(self._unplaced)

    def place(self) -> Exception | None:
        """Brings them into the store; those it refuses stay for the next time.

        Returns:
            Why it refused some; None when it refused none.
        """
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
            repeated = sum(one.outcome is Outcome.REPEATED for one in stored)
            INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc(repeated)
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

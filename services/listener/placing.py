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
from services.listener.comparing import Comparing
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
        outbox: the folder in which what is shipped waits, under its key.
    """

    def __init__(
        self, engine: Engine, store: StudyStore, ship: Ship | None, outbox: Path | None
    ) -> None:
        self._engine = engine
        self._store = store
        self._ship = ship
        self._outbox = outbox
        self._unplaced: list[Decided] = []
        self._comparing = None if ship is None else Comparing(self._deal_with_repeated)

    def __enter__(self) -> Placing:
        if self._comparing is not None:
            self._comparing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._comparing is not None:
            self._comparing.__exit__()

    def alive(self) -> bool:
        """Whether its thread runs, where it needs one."""
        return self._comparing is None or self._comparing.alive()

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
        first: dict[str, Path] = {}
        for one in self._unplaced:
            try:
                if one.outcome is Outcome.STORED or self._is_on_its_way(one, first.get(one.uid)):
                    stored.append(one)
                    first.setdefault(one.uid, one.path)
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

    def _is_on_its_way(self, one: Decided, first: Path | None) -> bool:
        """Whether an instance that was registered before is to be brought into the store.

        It is when that one is nowhere else: this is its file, found after a crash, or the same once
        more; whichever reaches the store stands for both. Else it is dealt with: the same bytes are
        removed, other bytes kept beside the first.

        Args:
            first: the file of the one that is being placed with it.
        """
        if not one.path.exists():
            return False
        if one.outcome is not Outcome.REPEATED:
            self._deal_with(one, one.outcome)
            return False
        known = find_instance(self._engine, one.uid)
        if known is None:
            return True
        if known.spooled_by is None:
            if self._comparing is None:
                self._deal_with_repeated(one)
            else:
                self._comparing.add(one)
            return False
        if self._outbox is not None and first is None:
            first = self._outbox / known.store_key
        if first is None or not first.exists():
            return True
        self._deal_with(one, _told_apart(first, one.path))
        return False

    def _deal_with_repeated(self, one: Decided) -> None:
        if not one.path.exists():
            return  # it was offered twice
        known = find_instance(self._engine, one.uid)
        assert known is not None, "rows of instances stay"
        self._deal_with(one, self._compared(one, known.store_key))

    def _deal_with(self, one: Decided, outcome: Outcome) -> None:
        if outcome is Outcome.CONFLICTING:
            self._keep_beside(one)
        one.path.unlink(missing_ok=True)
        INSTANCES_RECEIVED.labels(outcome).inc()

    def _compared(self, one: Decided, kept_key: str) -> Outcome:
        """What an instance is whose digest is that of the one in the store: bytes decide."""
        if self._store.size(kept_key) is None:  # somebody lost it
            self._store.put_file(kept_key, one.path)
            return Outcome.REPEATED
        with self._store.local([kept_key]) as kept:
            return _told_apart(kept[kept_key], one.path)

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


def _told_apart(kept: Path, file: Path) -> Outcome:
    return Outcome.REPEATED if _same_data(kept, file) else Outcome.CONFLICTING


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

"""From the spool into the store, when the rows have decided what an instance is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.identity import hashed
from services.common.store import FileCopy, StoreError, StudyStore, conflict_key, let_go
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import INSTANCES_RECEIVED
from services.listener.arrivals import Decided
from services.listener.comparing import Comparing
from services.listener.displaced import content_digest, keep_displaced
from services.listener.door.part10 import META_BYTES
from services.listener.registry import Outcome, find_instance, mark_in_store

_log = get_logger("listener")

_REFUSALS = (StoreError, SQLAlchemyError, OSError)

# Takes (SOP instance UID, key, file).
Ship = Callable[[Sequence[tuple[str, str, Path]]], None]


class Placing:
    """Files of instances whose rows are decided, on their way to where they belong.

    For one thread. What it holds is in the spool too: a crash loses nothing.

    Args:
        ship: where the store is not a folder of this machine; it marks the rows when the files are
            there. None moves them at once.
        outbox: the folder in which what is shipped waits, under its key.
        dealt_with: told what is where it belongs, in the registrar's thread or another one.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        ship: Ship | None,
        outbox: Path | None,
        dealt_with: Callable[[Sequence[Decided]], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._ship = ship
        self._outbox = outbox
        self._dealt_with = dealt_with
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

    def compare(self) -> None:
        """Compares what waits for that, where no thread does."""
        if self._comparing is not None:
            self._comparing.deal_with_all()

    def place(self) -> Exception | None:
        """Brings them into the store; those it refuses stay for the next time.

        Returns:
            Why it refused some; None when it refused none.
        """
        refused: list[Decided] = []
        trouble: Exception | None = None
        wanted: dict[str, Decided] = {}
        for one in self._unplaced:
            try:
                if self._is_to_be_brought(one, wanted.get(one.uid)):
                    wanted[one.uid] = one
            except _REFUSALS as error:
                refused.append(one)
                trouble = error
        try:
            self._bring(list(wanted.values()))
        except _REFUSALS as error:
            refused += wanted.values()
            trouble = error
        self._unplaced = refused
        return trouble

    def _is_to_be_brought(self, one: Decided, wanted: Decided | None) -> bool:
        """Whether this file is to become the instance's object; else it was dealt with.

        The first that was registered is, and, where that one is nowhere else, the same once more:
        it may be its file, found after a crash. Of two files of one instance the other one is let
        go, or kept beside, by its bytes.

        Args:
            wanted: of the same instance, what is to become its object already.
        """
        if one.outcome is Outcome.CONFLICTING:
            self._keep_beside(one)
            return False
        if wanted is not None and wanted.path == one.path:
            return False
        first = None if wanted is None else wanted.path
        if first is None and one.outcome is Outcome.REPEATED:
            known = find_instance(self._engine, one.uid)
            if known is not None and known.spooled_by is None:
                self._compare(one)
                return False
        if first is None and self._outbox is not None:
            first = self._outbox / one.received.store_key
            if one.outcome is Outcome.STORED and first.exists():
                self._make_room_in_outbox(one, first)
        if first is None or not first.exists() or not one.path.exists():
            return True
        self._told_apart(one, first)
        return False

    def _bring(self, wanted: list[Decided]) -> None:
        """Brings files to their places; rows say so of what was seen to be there."""
        there = [one for one in wanted if one.path.exists()]
        gone = [one for one in wanted if not one.path.exists()]
        if self._ship is not None:
            self._ship([(one.uid, one.received.store_key, one.path) for one in there])
        elif wanted:
            for one in there:
                self._make_room(one)
            files = [(one.received.store_key, one.path) for one in there]
            self._store.put_files(files, replace=True)
            found = [one for one in gone if self._is_in_store(one)]
            mark_in_store(self._engine, [one.uid for one in (*there, *found)])
            for one in gone:
                if one not in found:
                    _log.error("instance_neither_here_nor_there", instance_uid_hash=hashed(one.uid))
        repeated = sum(one.outcome is Outcome.REPEATED for one in wanted)
        INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc(repeated)
        self._dealt_with(wanted)

    def _is_in_store(self, one: Decided) -> bool:
        return self._store.size(one.received.store_key) == one.received.size_bytes

    def _make_room(self, one: Decided) -> None:
        """Keeps beside it what lies where an instance is to lie and is none of ours: a crash left
        it, or a database that is gone. The row decided what the instance is."""
        key = one.received.store_key
        if self._store.size(key) is not None:
            with self._store.local([key]) as found:
                if not FileCopy(found[key], META_BYTES).stands_for(one.path):
                    keep_displaced(self._store, one.uid, key)

    def _make_room_in_outbox(self, one: Decided, found: Path) -> None:
        if self._ship is not None and not FileCopy(found, META_BYTES).stands_for(one.path):
            self._ship([(one.uid, conflict_key(one.uid, _content_digest(one, found)), found)])

    def _compare(self, one: Decided) -> None:
        if self._comparing is None:
            self._deal_with_repeated(one)
        else:
            self._comparing.add(one)

    def _deal_with_repeated(self, one: Decided) -> None:
        """Deals with what has the digest of an instance in the store: bytes decide."""
        known = find_instance(self._engine, one.uid)
        assert known is not None, "rows of instances stay"
        if one.path.exists() and self._store.size(known.store_key) is None:  # somebody lost it
            self._store.put_file(known.store_key, one.path)
        if one.path.exists():
            with self._store.local([known.store_key]) as kept:
                self._told_apart(one, kept[known.store_key])
            return
        INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc()
        self._dealt_with([one])

    def _told_apart(self, one: Decided, first: Path) -> None:
        """Lets a file go that is the same as the first, else keeps it beside."""
        copy = FileCopy(first, META_BYTES)  # what stands before the data set names the sender
        if copy.stands_for(one.path):
            let_go(one.path, copy)
            INSTANCES_RECEIVED.labels(Outcome.REPEATED).inc()
            self._dealt_with([one])
        else:
            self._keep_beside(one)

    def _keep_beside(self, one: Decided) -> None:
        # PS3.4 B.2.3 leaves duplicates to us: the first one received stays the one that is used.
        # The sender may drop its copy after the success, so that this one is kept beside it.
        if one.path.exists():
            self._put_beside(one)
            _tell_of_conflict(one)
        INSTANCES_RECEIVED.labels(Outcome.CONFLICTING).inc()
        self._dealt_with([one])

    def _put_beside(self, one: Decided) -> None:
        key = conflict_key(one.uid, _content_digest(one, one.path))
        if self._ship is not None:
            self._ship([(one.uid, key, one.path)])
        elif self._store.size(key) is None:
            self._store.put_file(key, one.path)
        else:  # it came before, perhaps from another peer
            with self._store.local([key]) as kept:
                let_go(one.path, FileCopy(kept[key], META_BYTES))


def _content_digest(one: Decided, file: Path) -> str:
    return content_digest(file, one.received.registration.header.transfer_syntax_uid)


def _tell_of_conflict(one: Decided) -> None:
    received, header = one.received, one.received.registration.header
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

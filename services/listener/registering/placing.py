"""From the spool into the store, when the rows have decided what an instance is."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.headers import InstanceHeader
from services.common.identity import hashed
from services.common.store import (
    FileCopy,
    ObjectMissing,
    StoreError,
    StudyStore,
    conflict_key,
    let_go,
)
from services.common.telemetry import get_logger
from services.common.telemetry.audit import AuditEvent, audit
from services.common.telemetry.metrics import INSTANCES_RECEIVED
from services.listener.door.part10 import META_BYTES, is_whole
from services.listener.registering.arrivals import Decided, StoredInstance
from services.listener.registering.comparing import Comparing
from services.listener.registering.conflicts import begin_to_take, note_kept_beside
from services.listener.registering.displaced import content_digest, keep_displaced
from services.listener.registering.lost import LostImages
from services.listener.registering.pixels import heals, same_pixels
from services.listener.registering.registry import (
    KnownInstance,
    Novelty,
    begin_to_restore,
    find_instance,
    mark_in_store,
    record_conflict,
)

_log = get_logger("listener")

_REFUSALS = (StoreError, SQLAlchemyError, OSError)

# Takes (SOP instance UID, key, file).
Ship = Callable[[Sequence[tuple[str, str, Path]]], None]


class Placing:
    """Files of instances whose rows are decided, on their way to where they belong.

    For one thread. The files are in the spool too: a crash loses nothing.

    Args:
        listener_id: under which rows say that a file is in this listener's spool.
        ship: sends files to a store that is not a folder of this machine, and marks the rows when
            the files are there. None: the files are moved into the store at once.
        outbox: the folder in which files to be shipped wait, under their keys.
        dealt_with: called with instances whose files are where they belong, in the registrar's
            thread or another one.
        on_changed: called with instances that changed their study, though none of them is new.
        on_taking: called when a conflict is to take its instance's place.
        lost: is told of images whose files are nowhere.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        listener_id: str,
        ship: Ship | None,
        outbox: Path | None,
        dealt_with: Callable[[Sequence[Decided]], None] = lambda _: None,
        on_changed: Callable[[Sequence[StoredInstance]], None] = lambda _: None,
        on_taking: Callable[[], None] = lambda: None,
        lost: LostImages | None = None,
    ) -> None:
        self._lost = lost or LostImages()
        self._engine = engine
        self._store = store
        self._listener_id = listener_id
        self._ship = ship
        self._outbox = outbox
        self._dealt_with = dealt_with
        self._on_changed = on_changed
        self._on_taking = on_taking
        self._unplaced: list[Decided] = []
        self._comparing = None if ship is None else Comparing(self._deal_with)

    def __enter__(self) -> Placing:
        if self._comparing is not None:
            self._comparing.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._comparing is not None:
            self._comparing.__exit__()

    def alive(self) -> bool:
        """Whether the comparing thread runs, where there is to be one."""
        return self._comparing is None or self._comparing.alive()

    def add(self, decided: Sequence[Decided]) -> None:
        """Adds instances whose files are to be placed."""
        self._unplaced += decided

    def waiting(self) -> bool:
        """Whether the store refused files the last time, or files were not tried yet."""
        return bool(self._unplaced)

    def compare(self) -> None:
        """Compares what waits for that, where no thread does."""
        if self._comparing is not None:
            self._comparing.deal_with_all()

    def place(self) -> Exception | None:
        """Brings the files into the store; those that it refuses stay for the next time.

        Returns:
            Why the store refused files; None when it refused none.
        """
        refused: list[Decided] = []
        trouble: Exception | None = None
        wanted: dict[str, Decided] = {}
        conflicting = [one for one in self._unplaced if one.novelty is Novelty.CONFLICTING]
        for one in self._unplaced:
            try:
                if one.novelty is not Novelty.CONFLICTING and self._is_to_be_brought(
                    one, wanted.get(one.uid)
                ):
                    wanted[one.uid] = one
            except _REFUSALS as error:
                refused.append(one)
                trouble = error
        try:
            self._bring(list(wanted.values()))
        except _REFUSALS as error:
            refused += wanted.values()
            trouble = error
        for one in conflicting:  # what they differ from is in its place now
            try:
                self._compare(one)
            except _REFUSALS as error:
                refused.append(one)
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
        if wanted is not None and wanted.path == one.path:
            return False
        first = None if wanted is None else wanted.path
        if first is None and one.novelty is Novelty.REPEATED:
            known = find_instance(self._engine, one.uid)
            if known is not None and known.spooled_by is None:
                self._compare(one)
                return False
        if first is None and self._outbox is not None:
            first = self._outbox / one.received.store_key
            if one.novelty is Novelty.STORED and first.exists():
                self._make_room_in_outbox(one, first)
        if first is None or not first.exists() or not one.path.exists():
            return True
        if wanted is None and _is_damaged(first, one):
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
            self._mark([one.uid for one in (*there, *found)])
            lost = [one for one in gone if one not in found]
            for one in lost:
                _log.error("instance_neither_here_nor_there", instance_uid_hash=hashed(one.uid))
            self._lost.note({one.uid: one.stored.study_uid for one in lost})
        repeated = sum(one.novelty is Novelty.REPEATED for one in wanted)
        INSTANCES_RECEIVED.labels(Novelty.REPEATED).inc(repeated)
        self._dealt_with(wanted)

    def _mark(self, sop_instance_uids: Sequence[str]) -> None:
        mark_in_store(self._engine, sop_instance_uids)
        self._lost.found(sop_instance_uids)

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
            self._deal_with(one)
        else:
            self._comparing.add(one)

    def _deal_with(self, one: Decided) -> None:
        if one.novelty is Novelty.CONFLICTING:
            self._keep_beside(one)
        else:
            self._deal_with_repeated(one)

    def _deal_with_repeated(self, one: Decided) -> None:
        """Deals with what has the digest of an instance in the store: bytes decide."""
        if not one.path.exists():
            INSTANCES_RECEIVED.labels(Novelty.REPEATED).inc()
            self._dealt_with([one])
            return
        known = find_instance(self._engine, one.uid)
        assert known is not None, "rows of instances stay"
        registered = known.data_digest, known.transfer_syntax_uid
        if registered != (one.received.data_digest, _syntax(one)):
            self._conflicts(one)  # another one has taken the place since this one was decided
            return
        try:
            with self._store.local([known.store_key]) as kept:
                if not _is_damaged(kept[known.store_key], one):
                    self._told_apart(one, kept[known.store_key])
                    return
        except ObjectMissing:  # somebody lost it
            pass
        self._restore(one, known.store_key)

    def _restore(self, one: Decided, key: str) -> None:
        """Puts the file where the stored one is lost or damaged; its study is worked on anew."""
        if not begin_to_restore(self._engine, one.received, self._listener_id):
            raise StoreError("The instance was changed meanwhile.", retryable=True)
        self._store.put_file(key, one.path, replace=True)
        crashpoint("listener.instance.restored")
        self._mark([one.uid])
        self._on_changed([one.stored])
        _log.warning("instance_restored", instance_uid_hash=hashed(one.uid))
        INSTANCES_RECEIVED.labels(Novelty.REPEATED).inc()
        self._dealt_with([one])

    def _told_apart(self, one: Decided, first: Path) -> None:
        """Lets a file go that is the same as the first, else keeps it beside."""
        copy = FileCopy(first, META_BYTES)  # what stands before the data set names the sender
        if copy.stands_for(one.path):
            let_go(one.path, copy)
            INSTANCES_RECEIVED.labels(Novelty.REPEATED).inc()
            self._dealt_with([one])
        else:
            self._conflicts(one)

    def _conflicts(self, one: Decided) -> None:
        record_conflict(self._engine, one.received)
        self._compare(replace(one, novelty=Novelty.CONFLICTING))

    def _keep_beside(self, one: Decided) -> None:
        # PS3.4 B.2.3 leaves duplicates to us: the first one received stays the one that is used,
        # unless the peer's policy or a person decides otherwise. The sender may drop its copy
        # after the success, so that this one is kept beside it in any case.
        if one.path.exists():
            row = (one.uid, one.received.data_digest, _syntax(one))
            other_pixels, healing, healed = self._compare_pixels(one)
            key = self._put_beside(one)
            newly = note_kept_beside(
                self._engine, row, key, other_pixels=other_pixels, versions=healing or healed
            )
            takes = healing or one.received.conflicts == "take_latest"
            if takes:
                begin_to_take(self._engine, row)
            self._on_taking()  # somebody may have decided so before its bytes were here
            self._changed(newly, one)
            _tell_of_conflict(one)
        INSTANCES_RECEIVED.labels(Novelty.CONFLICTING).inc()
        self._dealt_with([one])

    def _compare_pixels(self, one: Decided) -> tuple[bool, bool, bool]:
        """Whether its pixels are others than the instance's, also where that cannot be told;
        whether it is whole and its instance was cut off; and the other way round."""
        known = find_instance(self._engine, one.uid)
        if known is None or known.deleted_at is not None:
            return True, False, False
        kept = InstanceHeader.from_json(known.header)
        own = one.path, one.received.registration.header
        with self._kept_file(known) as file:
            if file is None:
                return True, False, False
            image = file, kept
            return not same_pixels(own, image), heals(own, image), heals(image, own)

    @contextmanager
    def _kept_file(self, known: KnownInstance) -> Generator[Path | None]:
        """The instance's file, in the outbox or the store; None where it is lost."""
        if self._outbox is not None and (waiting := self._outbox / known.store_key).exists():
            yield waiting
            return
        if known.spooled_by is not None:
            raise StoreError("The instance is on its way to the store.", retryable=True)
        with ExitStack() as opened:
            try:
                found = opened.enter_context(self._store.local([known.store_key]))
            except ObjectMissing:
                yield None
                return
            yield found[known.store_key]

    def _put_beside(self, one: Decided) -> str:
        """Brings it where it is kept beside its instance; the key."""
        key = conflict_key(one.uid, _content_digest(one, one.path))
        if self._ship is not None:
            self._ship([(one.uid, key, one.path)])
        elif self._store.size(key) is None:
            self._store.put_file(key, one.path)
        else:  # it came before, perhaps from another peer
            with self._store.local([key]) as kept:
                let_go(one.path, FileCopy(kept[key], META_BYTES))
        return key

    def _changed(self, changed: bool, one: Decided) -> None:
        """Has a study looked at of which no instance is new, and all the same something."""
        if changed:
            self._on_changed([one.stored])


def _is_damaged(kept: Path, one: Decided) -> bool:
    """Whether a kept file is not what was registered, and this one of the same digest is.

    Cost: the kept file is read once more.
    """
    digest = one.received.data_digest
    return not is_whole(kept, digest) and is_whole(one.path, digest)


def _syntax(one: Decided) -> str:
    return one.received.registration.header.transfer_syntax_uid


def _content_digest(one: Decided, file: Path) -> str:
    return content_digest(file, _syntax(one))


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

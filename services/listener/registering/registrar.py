"""From instances that lie in a spool to rows of the database and objects of the store.

What is offered here was acknowledged, or is about to be: it is on disk. It is registered in
batches, one transaction for as many as wait, then taken into the store. An instance that comes
twice with the same bytes is counted once; other bytes under its UID are kept beside it and flagged.
Nothing that was offered is given up: while the database or the store does not answer, it waits in
the spool.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.headers import Registration, read_registration
from services.common.store import StoreError, StudyStore, instance_key
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import BYTES_RECEIVED, INSTANCES_RECEIVED, QUEUE_DEPTH
from services.listener.backoff import backoff_s
from services.listener.door.part10 import META_BYTES
from services.listener.peers.policies import KEEP_FIRST
from services.listener.registering.arrivals import Decided, Offered, StoredInstance
from services.listener.registering.lost import LostImages
from services.listener.registering.placing import Placing, Ship
from services.listener.registering.quarantine import UNREADABLE, Quarantine
from services.listener.registering.registry import Novelty, ReceivedInstance, register_instances

_log = get_logger("listener")

# One transaction's worth; more wait for the next one.
_BATCH = 512
# A transaction costs as much CPU as registering twenty instances, and CPU is what receiving needs:
# a batch is gathered while more keeps coming within this time of each other, and no longer than
# that; at once where somebody waits for it or an association has ended. Whoever asks whether a
# study is quiet has what waits here registered first (`flush`).
_GATHER_S = 0.05
_GATHER_AT_MOST_S = 0.4
# Senders wait for their answers, nobody for a row: while both want the processor, receiving has
# the larger share (about three to one). Linux counts niceness by thread.
_NICENESS = 5
# So many may wait before whoever offers has to: the spool, not memory, is where instances wait.
_MOST_WAITING = 4096

# A file cannot be opened for want of these: it can in a moment.
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))

_Received = tuple[Offered, Path, ReceivedInstance]


class Registrar:
    """Registers what is offered; a context manager that owns a thread.

    Args:
        quarantine: where files go that are no instances.
        listener_id: this listener's name, under which rows say that a file is in its spool.
        ship: takes (sop instance uid, key, file) of registered instances when the store is not a
            folder of this machine, and marks them when they are there; None moves them at once.
        outbox: where what is shipped waits.
        on_stored: called with the new instances of a batch.
        quiet_period_s, conflicts: give a peer's.
        on_changed: called with instances that may have changed their study though none is new.
        on_taking: called when a conflict is to become its instance.
        lost: is told of images whose files are nowhere.
    """

    def __init__(
        self,
        engine: Engine,
        store: StudyStore,
        quarantine: Quarantine,
        listener_id: str,
        on_stored: Callable[[Sequence[StoredInstance]], None],
        ship: Ship | None = None,
        outbox: Path | None = None,
        *,
        quiet_period_s: Callable[[str], float],
        conflicts: Callable[[str], str] = lambda _: KEEP_FIRST,
        on_changed: Callable[[Sequence[StoredInstance]], None] = lambda _: None,
        on_taking: Callable[[], None] = lambda: None,
        lost: LostImages | None = None,
    ) -> None:
        self._engine = engine
        self._store = store
        self._quarantine = quarantine
        self._listener_id = listener_id
        self._on_stored = on_stored
        self._ship = ship
        self._quiet_period_s = quiet_period_s
        self._conflicts = conflicts
        self._on_changed = on_changed
        self._waiting: deque[Offered] = deque()
        # Files that wait to be registered or placed: one that is offered once more meanwhile (by
        # its receiver, and after that one's death) is still one file.
        self._under_way: set[str] = set()
        self._placing = Placing(  # the thread's own
            engine, store, listener_id, ship, outbox, self._placed, on_changed, on_taking, lost
        )
        self._changed = threading.Condition()
        self._offered = 0
        self._registered = 0
        self._done = 0  # registered, and placed or refused by the store
        self._stopped = False
        self._urgent = False
        self._unsure = False  # whether a transaction that failed took
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="registrar", daemon=True)

    def __enter__(self) -> Registrar:
        self._placing.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Registers what waits, unless the database is in trouble: the spool keeps that."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join()
        self._placing.__exit__()

    def offer(self, offered: Offered) -> None:
        """Has an instance registered; waits only while very many are waiting already."""
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._stopped:
                self._changed.wait()
            if offered.file.path in self._under_way:
                return
            self._under_way.add(offered.file.path)
            self._waiting.append(offered)
            self._offered += 1
            if len(self._waiting) in (1, _BATCH):
                self._changed.notify_all()

    def hurry(self) -> None:
        """Has the waiting instances registered at once: no more are on their way."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Waits until everything offered before this call is registered; False on timeout."""
        with self._changed:
            wanted = self._offered
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._done >= wanted, timeout_s)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and self._placing.alive()

    def problem(self) -> str | None:
        """What keeps instances from being registered; None when nothing does."""
        return self._trouble

    def _run(self) -> None:
        own = threading.get_native_id()
        with contextlib.suppress(OSError):  # a sandbox that does not let us
            nice = os.getpriority(os.PRIO_PROCESS, own)
            os.setpriority(os.PRIO_PROCESS, own, nice + _NICENESS)
        failures = 0
        while True:
            with self._changed:
                while not self._waiting and not self._stopped and not self._placing.waiting():
                    self._changed.wait()
                if self._stopped and (failures or not self._waiting):
                    return
                self._gather()
            trouble = self.register_waiting()
            trouble = self._placing.place() or trouble
            with self._changed:
                self._done = self._registered
                self._changed.notify_all()
                failures = 0 if trouble is None else failures + 1
                self._note(trouble, failures)
                if trouble is not None:
                    self._changed.wait_for(lambda: self._stopped, backoff_s(failures, 0.5))

    def register_waiting(self) -> Exception | None:
        """Registers one batch of the waiting instances.

        For the registrar's own thread, or for a caller where that thread is not started.

        Returns:
            Why the batch could not be registered, and waits on; None when it was registered.
        """
        with self._changed:
            batch = list(islice(self._waiting, _BATCH))
        try:
            self._register(batch, again=self._unsure)
        except (SQLAlchemyError, OSError) as error:
            self._unsure = True
            return error
        self._unsure = False
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
            self._registered += len(batch)
            QUEUE_DEPTH.labels("registrar").set(len(self._waiting))
            self._changed.notify_all()
        return None

    def _gather(self) -> None:
        """Waits, with the lock held, while a batch is growing."""
        until = time.monotonic() + _GATHER_AT_MOST_S
        seen = -1
        while seen != self._offered and time.monotonic() < until:
            seen = self._offered
            if self._changed.wait_for(self._is_urgent, _GATHER_S):
                break
        self._urgent = False

    def _is_urgent(self) -> bool:
        return self._urgent or self._stopped or len(self._waiting) >= _BATCH

    def _note(self, trouble: Exception | None, failures: int) -> None:
        # Of a store that is away shipping tells; instances are received all the same.
        if trouble is None or (self._ship is not None and isinstance(trouble, StoreError)):
            self._trouble = None
            return
        self._trouble = f"Instances wait in the spool: {_in_words(trouble)}."
        if failures == 1:
            _log.error("registering_failed", problem=type(trouble).__name__)

    def _register(self, batch: list[Offered], *, again: bool) -> None:
        received = [one for one in map(self._received, batch) if one is not None]
        try:
            novelties = self._novelties([one for _, _, one in received])
        except Exception as error:
            if isinstance(error, SQLAlchemyError) and not _is_about_values(error):
                raise
            novelties = self._one_by_one(received)
        crashpoint("listener.instance.registered")
        decided = [
            Decided(offered, path, one, novelty)
            for (offered, path, one), novelty in zip(received, novelties, strict=True)
            if novelty is not None
        ]
        self._placing.add(decided)
        # A transaction may have been committed without our hearing of it: then what is repeated is
        # what it registered, and nobody was told.
        counting = {Novelty.STORED, Novelty.REPEATED} if again else {Novelty.STORED}
        self._count([one for one in decided if one.novelty in counting])
        conflicting = [one.stored for one in decided if one.novelty is Novelty.CONFLICTING]
        if conflicting:
            self._on_changed(conflicting)

    def _placed(self, decided: Sequence[Decided]) -> None:
        self._forget([one.offered for one in decided])

    def _forget(self, offers: Sequence[Offered]) -> None:
        with self._changed:
            self._under_way.difference_update(offered.file.path for offered in offers)

    def _count(self, new: Sequence[Decided]) -> None:
        if new:
            INSTANCES_RECEIVED.labels(Novelty.STORED).inc(len(new))
            BYTES_RECEIVED.inc(sum(one.offered.file.data_bytes for one in new))
            self._on_stored([one.stored for one in new])

    def _received(self, offered: Offered) -> _Received | None:
        file = offered.file
        path = Path(file.path)
        if not path.exists():  # it was dealt with before it was offered once more
            self._forget([offered])
            return None
        try:
            registration = offered.registration or _read(path)
            header = registration.header
            key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise  # it is not the file's fault
            return self._put_aside(path, "the file cannot be read from the disk", error)
        except Exception as error:  # noqa: BLE001 - one instance must not keep the others waiting
            known = offered.registration
            study_uid = None if known is None else known.header.study_uid
            return self._put_aside(path, "its attributes cannot be read", error, study_uid)
        received = ReceivedInstance(
            registration=registration,
            store_key=key,
            size_bytes=file.data_bytes + META_BYTES,
            data_digest=file.data_digest,
            received_at=dt.datetime.fromtimestamp(file.received_at, dt.UTC),
            peer=file.meta.peer,
            priority=offered.priority,
            quiet_period_s=self._quiet_period_s(offered.peer),
            conflicts=self._conflicts(offered.peer),
            receiving=offered.receiving,
        )
        return offered, path, received

    def _novelties(self, received: list[ReceivedInstance]) -> list[Novelty | None]:
        return list(register_instances(self._engine, received, self._listener_id))

    def _one_by_one(self, received: list[_Received]) -> list[Novelty | None]:
        """What one instance's values make the database refuse must not keep the others waiting."""
        novelties: list[Novelty | None] = []
        for _, path, one in received:
            try:
                novelties += self._novelties([one])
            except Exception as error:
                if isinstance(error, SQLAlchemyError) and not _is_about_values(error):
                    raise
                problem = "the database refuses what it says of itself"
                self._put_aside(path, problem, error, one.registration.header.study_uid)
                novelties.append(None)
        return novelties

    def _put_aside(
        self, file: Path, problem: str, error: Exception, study_uid: str | None = None
    ) -> None:
        _log.warning("instance_not_registered", kind=type(error).__name__)
        self._quarantine.put(file, UNREADABLE, problem, study_uid)
        INSTANCES_RECEIVED.labels("quarantined").inc()
        with self._changed:
            self._under_way.discard(str(file))


def _read(path: Path) -> Registration:
    with path.open("rb") as file:
        return read_registration(file)


def _in_words(trouble: Exception) -> str:
    """What is in the way; its own text may hold values of a header."""
    match trouble:
        case SQLAlchemyError():
            return "the database does not take what they are"
        case StoreError():
            return "the study store does not take them"
        case OSError():
            return f"the machine has none left of something ({trouble.strerror or 'unknown'})"
        case _:
            return "something unforeseen went wrong"


def _is_about_values(error: SQLAlchemyError) -> bool:
    # Data and integrity errors are about what is written; operational ones about the database.
    return isinstance(error, (DataError, IntegrityError))

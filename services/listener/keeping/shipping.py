"""From this listener's disk to a study store in S3.

What was registered lies in the outbox, a folder beside the spool, under the key that it will have.
All that lies there of a series is sent together, several objects at once; what arrives meanwhile
goes with the next round. Then the rows say that the store has it, and whoever waits for the study
is told. Rounds of different series follow one another: what is on its way at once is bounded.

While the store does not answer, instances are received until the watermark of the disk and wait
here. The outbox survives its process: what it holds is sent when the listener is back.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from services.common.crashpoints import crashpoint
from services.common.database import InstanceRow
from services.common.identity import hashed
from services.common.store import ObjectDiffers, StoreError, StudyStore, parent_of
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import (
    OBJECTS_SHIPPED,
    OBJECTS_WAITING,
    SHIPPED_BYTES,
    SHIPPING_FAILURES,
)
from services.listener.backoff import LONGEST_BACKOFF_S, backoff_s
from services.listener.registering.displaced import keep_displaced
from services.listener.registering.lost import LostImages
from services.listener.registering.registry import mark_in_store
from services.listener.wheel import Wheel

_log = get_logger("listener")

_INSTANCES = "studies/"
# The key of the round that looks after what was left between two steps.
_LEFT_OVER = ""

# What is registered and not here yet comes within milliseconds; this long only after a crash.
_LOOK_AGAIN_S = 60.0

# An instance's UID, its key, and the file that is to lie there.
Item = tuple[str, str, Path]


class Shipping:
    """Sends files of instances to the store; a context manager that owns a thread.

    Args:
        outbox: a folder of this listener alone, on the file system of its spool.
        listener_id: under which rows say that their files are here.
        on_shipped: called with the UID of a study of which the store has more now.
        lost: is told of images whose files are nowhere.
    """

    def __init__(
        self,
        engine: Engine,
        outbox: Path,
        store: StudyStore,
        listener_id: str,
        on_shipped: Callable[[str], None],
        lost: LostImages | None = None,
    ) -> None:
        self._lost = lost or LostImages()
        self._engine = engine
        self._outbox = StudyStore(outbox)
        self._store = store
        self._listener_id = listener_id
        self._on_shipped = on_shipped
        self._lock = threading.Lock()
        # Keys in the outbox by group, and those of them that are on their way into it.
        self._waiting: dict[str, set[str]] = {}
        self._entering: set[str] = set()
        # Written by the wheel's thread alone.
        self._missed: AbstractSet[str] = frozenset()
        self._failures: dict[str, int] = {}
        self._wheel: Wheel[str] = Wheel("shipping", self._round)

    def __enter__(self) -> Shipping:
        keys = [found.key for found in self._outbox.list("")]
        self._count(keys)
        self._wheel.__enter__()
        for group in dict.fromkeys(parent_of(key) for key in keys):
            self._wheel.arm(group, 0.0)
        self._wheel.arm(_LEFT_OVER, 0.0)
        return self

    def __exit__(self, *_: object) -> None:
        """Ends after the round under way; the rest is sent at the next start."""
        self._wheel.__exit__()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._wheel.alive()

    def remark(self) -> str | None:
        """How much waits because the store does not answer, as a sentence; None while it answers.

        No reason to refuse instances: that comes with the watermark.
        """
        if not self._failures:
            return None
        with self._lock:
            waiting = sum(map(len, self._waiting.values()))
        return f"The study store does not answer: {waiting} object(s) wait on the listener's disk."

    def add(self, items: Sequence[Item]) -> None:
        """Has files of registered instances, or of what is kept beside instances, sent.

        The files are in the outbox when this returns: durable, and under their keys. The row
        decided that these bytes are the instance, so that they replace what waits under its key.

        Raises:
            StoreError: the disk refused; files that did not enter the outbox are where they were.
        """
        keys = [key for _, key, _ in items]
        with self._lock:
            self._entering.update(keys)
        self._count(keys)  # before a round can see them, and send them
        try:
            self._outbox.put_files([(key, file) for _, key, file in items], replace=True)
        except BaseException:
            self._uncount([key for _, key, file in items if self._is_outside(key, file)])
            raise
        finally:
            with self._lock:
                self._entering.difference_update(keys)
            self._send_soon(keys)

    def _is_outside(self, key: str, file: Path) -> bool:
        return file.exists() and not self._outbox.path(key).exists()

    def _send_soon(self, keys: Sequence[str]) -> None:
        for group in dict.fromkeys(parent_of(key) for key in keys):
            if group not in self._failures:  # else it has its pause
                self._wheel.arm(group, 0.0)

    def _round(self, group: str) -> None:
        try:
            if group == _LEFT_OVER:
                self._mark_left_over()
            else:
                self._ship(group)
        except (StoreError, SQLAlchemyError) as error:
            self._try_again(group, error)
            return
        self._failures.pop(group, None)
        if group != _LEFT_OVER and any(True for _ in self._outbox.list(group)):
            self._wheel.arm(group, 0.0)  # it came during the pause of a round that failed

    def _ship(self, group: str) -> None:
        found = {entry.key: entry.size_bytes for entry in self._outbox.list(group)}
        files = [(key, self._outbox.path(key)) for key in found]
        try:
            self._put(files)
        finally:
            # Also those of a round that failed: what is not here any more was sent.
            crashpoint("listener.series.shipped")
            sent = [key for key, file in files if not file.exists()]
            self._outbox.tidy(sent)
            self._uncount(sent)
            OBJECTS_SHIPPED.inc(len(sent))
            SHIPPED_BYTES.inc(sum(found[key] for key in sent))
            self._drop_gone(group, found)
            self._mark_found(group, {key: found[key] for key in sent})

    def _mark_found(self, group: str, sent: Mapping[str, int]) -> None:
        """Marks what the store lists with its size; what it does not list is looked for again."""
        try:
            listed = {entry.key: entry.size_bytes for entry in self._store.list(group)}
        except StoreError:
            self._wheel.arm(_LEFT_OVER, LONGEST_BACKOFF_S)
            raise
        there = [key for key, size in sent.items() if listed.get(key) == size]
        if len(there) < len(sent):
            self._wheel.arm(_LEFT_OVER, LONGEST_BACKOFF_S)
        self._mark(there)

    def _drop_gone(self, group: str, found: Collection[str]) -> None:
        """Has what left the outbox in a round that broke before it told looked for in the store."""
        with self._lock:
            unseen = self._waiting.get(group, set()) - self._entering - set(found)
        gone = [key for key in unseen if not self._outbox.path(key).exists()]
        if gone:
            self._uncount(gone)
            self._wheel.arm(_LEFT_OVER, 0.0)

    def _put(self, files: Sequence[tuple[str, Path]]) -> None:
        while files:
            try:
                self._store.put_files(files)
            except ObjectDiffers as error:
                # Left by a database that is gone, or of a study that was removed a moment ago.
                _log.warning("object_replaced", object_hash=hashed(error.key))
                if error.key.startswith(_INSTANCES):
                    keep_displaced(self._store, Path(error.key).stem, error.key)
                self._store.put_file(error.key, dict(files)[error.key], replace=True)
            files = [(key, file) for key, file in files if file.exists()]

    def _mark_left_over(self) -> None:
        """Marks what was sent without the row saying so: the process died, or the database did."""
        with self._engine.execution_options(axial_readonly=True).connect() as connection:
            rows = connection.execute(
                select(InstanceRow.store_key, InstanceRow.size_bytes).where(
                    InstanceRow.spooled_by == self._listener_id
                )
            ).all()
        with self._lock:
            unsent = {
                key: size for key, size in rows if key not in self._waiting.get(parent_of(key), ())
            }
        there: list[str] = []
        for group in dict.fromkeys(parent_of(key) for key in unsent):
            there += [
                found.key
                for found in self._store.list(group)
                if unsent.get(found.key) == found.size_bytes
            ]
        self._mark(there)
        missed = unsent.keys() - there
        # Those missed for the first time may be on their way from the spool.
        lost = missed & self._missed
        newly = self._lost.note({Path(key).stem: key.split("/")[1] for key in lost})
        if newly:
            _log.error("instances_neither_here_nor_there", instances=newly)
        self._missed = missed
        if missed:
            self._wheel.arm(_LEFT_OVER, _LOOK_AGAIN_S)

    def _mark(self, keys: Sequence[str]) -> None:
        instances = [key for key in keys if key.startswith(_INSTANCES)]
        if not instances:
            return
        try:
            uids = [Path(key).stem for key in instances]
            mark_in_store(self._engine, uids)
            self._lost.found(uids)
        except SQLAlchemyError:
            self._wheel.arm(_LEFT_OVER, LONGEST_BACKOFF_S)
            raise
        crashpoint("listener.series.marked")
        for study_uid in dict.fromkeys(key.split("/")[1] for key in instances):
            self._on_shipped(study_uid)

    def _count(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._waiting.setdefault(parent_of(key), set()).add(key)
            OBJECTS_WAITING.set(sum(map(len, self._waiting.values())))

    def _uncount(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                group = parent_of(key)
                self._waiting.get(group, set()).discard(key)
                if not self._waiting.get(group):
                    self._waiting.pop(group, None)
            OBJECTS_WAITING.set(sum(map(len, self._waiting.values())))

    def _try_again(self, group: str, error: Exception) -> None:
        failures = self._failures.get(group, 0) + 1
        self._failures[group] = failures
        SHIPPING_FAILURES.inc()
        wait_s = backoff_s(failures, random.random())  # noqa: S311 - no secret
        if failures == 1 or wait_s > LONGEST_BACKOFF_S / 2:
            _log.warning(
                "shipping_failed",
                series_hash=hashed(group),
                problem=type(error).__name__,
                failures=failures,
            )
        self._wheel.arm(group, wait_s)

"""A durable queue of work, with a bound and a bell: one of revisions, one of jobs.

DBOS looks into a queue at fixed intervals. A study must not wait for that, and looking often
costs a core what it should have for inference. So the loop that looks is DBOS's own, but it waits
on a bell instead of the clock: rung when work is put in or a worker becomes free, and by itself
every few seconds, which is what another worker's work waits for at most; a worker that has the
database to itself looks ten times less often, since nobody else puts work in. Without a bound DBOS
would begin everything at once: after an outage thousands of revisions, each with all of its
headers.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from dbos import DBOS
from dbos._dbos import _get_dbos_instance  # pyright: ignore[reportPrivateUsage]
from dbos._queue import Queue, queue_worker_thread

REVISIONS, JOBS = "revisions", "jobs"
# How long what another worker has put in waits at most: it rings no bell here.
_FALLBACK_S = {REVISIONS: 2.0, JOBS: 1.0}
# So much longer a worker waits that is alone: only a ring brings work then.
_ALONE_FACTOR = 10.0
# Looks after a ring that come as soon as they were asked for.
_EAGER_LOOKS = 3


class Bell(threading.Event):
    """An event that means "stop" when set, and whose waiters can be woken without a stop."""

    def __init__(self) -> None:
        super().__init__()
        # A wait lasts this many times as long as the waiter asks, but for those after a ring: what
        # the ring was for may not be had at the first look (another connection holds the lock).
        self.patience = 1.0
        self._eager = 0
        self._rung = threading.Condition()
        self._rings = 0
        self._heard = 0

    def ring(self) -> None:
        """Wakes the waiter now; a ring while nobody waits is heard by the next wait."""
        with self._rung:
            self._rings += 1
            self._rung.notify_all()

    def set(self) -> None:
        """Stops the waiter for good."""
        super().set()
        self.ring()

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for a ring, a stop or the timeout; True only for a stop."""
        with self._rung:
            if self._rings == self._heard:
                factor = 1.0 if self._eager else self.patience
                self._eager = max(0, self._eager - 1)
                self._rung.wait(None if timeout is None else timeout * factor)
            if self._rings != self._heard:
                self._eager = _EAGER_LOOKS
            self._heard = self._rings
        return self.is_set()


class WorkQueue:
    """A queue of one worker, open between `open` and `close`.

    Args:
        name: of the queue; all workers of one database share the queued work.
        at_once: how many items this worker works on at a time.
    """

    def __init__(self, name: str, at_once: int) -> None:
        self._name = name
        self._limit = at_once
        self._bell = Bell()
        self._slots = threading.BoundedSemaphore(at_once)
        self._thread: threading.Thread | None = None

    @property
    def queue(self) -> Queue:
        """DBOS's queue; put work in with ``queue.enqueue`` and `ring`."""
        return self._queue

    def open(self) -> None:
        """Registers the queue (after DBOS's launch) and begins to work on its items."""
        self._queue = DBOS.register_queue(
            self._name, worker_concurrency=self._limit, polling_interval_sec=_FALLBACK_S[self._name]
        )
        self._thread = threading.Thread(
            target=queue_worker_thread,
            args=(self._bell, _get_dbos_instance(), self._queue),
            name=f"queue-{self._name}",
            daemon=True,
        )
        self._bell.ring()  # what was left from before waits for no pause
        self._thread.start()

    @contextmanager
    def slot(self) -> Generator[None]:
        """Holds one of the places of what this worker works on at a time; waits for it.

        DBOS counts what runs when it looks, and what it has given out lately may not run yet: two
        looks close upon each other give out more than the limit.
        """
        with self._slots:
            yield

    def know_alone(self, alone: bool) -> None:
        """Takes note of whether this worker has the database to itself."""
        if self._bell.patience != 1.0 and not alone:
            self._bell.ring()  # what the other one has put in waits for no long pause
        self._bell.patience = _ALONE_FACTOR if alone else 1.0

    def alive(self) -> bool:
        """Whether work is being taken."""
        return self._thread is not None and self._thread.is_alive()

    def ring(self) -> None:
        """Has the queue looked into now."""
        self._bell.ring()

    def close(self) -> None:
        """Takes no further work."""
        self._bell.set()
        if self._thread is not None:
            self._thread.join(5.0)

"""The durable queue of jobs, with a bell.

DBOS looks into a queue at fixed intervals. A study must not wait for that, and looking often
costs a core what it should have for inference. So the loop that looks is DBOS's own, but it waits
on a bell instead of the clock: rung when a job is put in or a worker becomes free, and by itself
every `FALLBACK_S`, which is what another worker's jobs wait for at most.
"""

from __future__ import annotations

import threading

from dbos import DBOS
from dbos._dbos import _get_dbos_instance  # pyright: ignore[reportPrivateUsage]
from dbos._queue import Queue, queue_worker_thread

QUEUE_NAME = "jobs"
FALLBACK_S = 1.0


class Bell(threading.Event):
    """An event that means "stop" when set, and whose waiters can be woken without setting it."""

    def __init__(self) -> None:
        super().__init__()
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
                self._rung.wait(timeout)
            self._heard = self._rings
        return self.is_set()


class JobQueue:
    """The queue of one worker, open between `open` and `close`."""

    def __init__(self, max_concurrent_jobs: int) -> None:
        self._limit = max_concurrent_jobs
        self._bell = Bell()
        self._thread: threading.Thread | None = None

    @property
    def queue(self) -> Queue:
        """DBOS's queue; put jobs in with ``queue.enqueue`` and `ring`."""
        return self._queue

    def open(self) -> None:
        """Registers the queue (after DBOS's launch) and begins to take jobs from it."""
        self._queue = DBOS.register_queue(
            QUEUE_NAME, worker_concurrency=self._limit, polling_interval_sec=FALLBACK_S
        )
        self._thread = threading.Thread(
            target=queue_worker_thread,
            args=(self._bell, _get_dbos_instance(), self._queue),
            name="job-queue",
            daemon=True,
        )
        self._thread.start()

    def alive(self) -> bool:
        """Whether jobs are being taken."""
        return self._thread is not None and self._thread.is_alive()

    def ring(self) -> None:
        """Has the queue looked into now."""
        self._bell.ring()

    def close(self) -> None:
        """Takes no further jobs."""
        self._bell.set()
        if self._thread is not None:
            self._thread.join(5.0)

"""All destinations together: what the service enqueues, withdraws and sends again."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlalchemy import Engine

from services.common.crashpoints import crashpoint
from services.common.identity import hashed
from services.common.settings import ReportingSettings
from services.common.store import StudyStore
from services.common.telemetry import get_logger
from services.reporting.delivery.queue import DeliveryQueue
from services.reporting.delivery.resending import Resent, Wanted
from services.reporting.delivery.worker import DestinationWorker
from services.reporting.errors import JobError

_log = get_logger("reporting")


class Deliveries:
    """The queue and its workers; made by `open_deliveries`."""

    def __init__(
        self, queue: DeliveryQueue, settings: ReportingSettings, workers: list[DestinationWorker]
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._workers = workers

    def release(self, job_uid: str) -> int:
        """Puts the results of a job on every queue; durable on return.

        Raises:
            JobError: the job has no registered results.
        """
        deliveries = self._queue.enqueue(job_uid, self._settings.destinations)
        crashpoint("reporting.deliveries.enqueued")
        self._wake()
        _log.info("results_released", job=hashed(job_uid), deliveries=deliveries)
        return deliveries

    def withdraw(self, job_uids: Sequence[str]) -> int:
        """Withdraws the results of superseded jobs from the queues; returns how many."""
        withdrawn = self._queue.withdraw(job_uids, self._settings.destinations)
        _log.info("results_withdrawn", jobs=len(job_uids), deliveries=withdrawn)
        return withdrawn

    def resend(self, wanted: Wanted, *, delivered: bool = False) -> Resent:
        """Puts dead and waiting deliveries back on their queues, as `resending.resend`.

        Args:
            wanted: which deliveries are meant.
            delivered: whether those that have arrived leave again too.

        Raises:
            JobError: nothing is named, or there is no such destination or delivery.
        """
        known = [each.name for each in self._settings.destinations]
        if wanted.destination and wanted.destination not in known:
            raise JobError(
                f"'{wanted.destination}' is no destination; known are {', '.join(known)}."
            )
        again = self._queue.resend(wanted, delivered=delivered)
        self._wake()
        _log.info(
            "deliveries_resent",
            deliveries=again.deliveries,
            left_delivered=again.delivered,
            left_superseded=again.superseded,
            left_held=again.held,
        )
        return again

    def problems(self) -> list[str]:
        """What keeps deliveries from being made; a destination that is down does not count."""
        return [
            f"The sender to {worker.destination.name} has stopped."
            for worker in self._workers
            if not worker.alive
        ]

    def _wake(self) -> None:
        for worker in self._workers:
            worker.wake()


@contextmanager
def open_deliveries(
    engine: Engine, store: StudyStore, settings: ReportingSettings, grace_s: float
) -> Generator[Deliveries]:
    """Starts delivering, first what this replica was sending when it died.

    On leaving, an object under way gets `grace_s` to arrive; what is left goes back on the queue.
    """
    queue = DeliveryQueue(engine, settings.sender_id)
    put_back = queue.put_back_own()
    if put_back:
        _log.info("deliveries_taken_up", deliveries=put_back)
    unknown = queue.unknown_destinations(each.name for each in settings.destinations)
    for name, number in unknown.items():
        _log.error("destination_not_configured", destination=name, deliveries=number)
    workers = [
        DestinationWorker(destination, queue, store) for destination in settings.destinations
    ]
    for worker in workers:
        worker.start()
    try:
        yield Deliveries(queue, settings, workers)
    finally:
        for worker in workers:
            worker.request_stop()
        deadline = time.monotonic() + grace_s
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

"""One thread per destination: a slow or dead destination delays no other.

A worker owns its association. It is woken at once when something was enqueued; otherwise it
sleeps until the next delivery is due, found by one query, and looks up at the latest after
`_LOOK_UP_S` for what another replica enqueued or left.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from services.common.crashpoints import crashpoint
from services.common.database import utc_now
from services.common.identity import hashed
from services.common.settings import Destination
from services.common.store import ObjectMissing, StoreError, StudyStore
from services.common.telemetry import get_logger, span
from services.common.telemetry.metrics import DELIVERIES, QUEUE_DEPTH
from services.dimse.statuses import Outcome
from services.reporting.delivery.probing import Probing
from services.reporting.delivery.queue import DeliveryQueue, Parcel
from services.reporting.delivery.rows import Delivery
from services.reporting.delivery.sender import (
    Association,
    AssociationFailed,
    Attempt,
    answers,
    associate,
)

# Another replica's rows wake nobody here; this is how long they can lie when it dies.
_LOOK_UP_S = 5.0
# Beyond the peer's own deadlines, for reading the file and writing the row.
_LEASE_MARGIN_S = 30.0
# A result that arrives ends the pauses of what was refused for now, but no more often than this.
_SUCCESS_CUTS_EVERY_S = 60.0
# Share of a wait by which it is shortened or lengthened, so that retries do not come in step.
_JITTER = 0.2
# After something that nobody planned, so that it is not repeated thousands of times a second.
_PAUSE_AFTER_ERROR_S = 1.0

_log = get_logger("reporting")


class DestinationWorker:
    """Delivers to one destination, in a thread of its own."""

    def __init__(self, destination: Destination, queue: DeliveryQueue, store: StudyStore) -> None:
        self.destination = destination
        self._queue = queue
        self._store = store
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._association: Association | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"deliver:{destination.name}", daemon=True
        )
        self._probing = Probing(destination.probe_period_s, destination.longest_backoff_s)
        self._all_cut_at = -_SUCCESS_CUTS_EVERY_S
        self._lease_s = (
            2 * destination.connect_timeout_s + destination.response_timeout_s + _LEASE_MARGIN_S
        )

    def start(self) -> None:
        """Starts delivering."""
        self._thread.start()

    def wake(self) -> None:
        """Says that there may be something to deliver."""
        self._wake.set()

    def request_stop(self) -> None:
        """Asks it to end after the object under way."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Waits for its end; an object that takes longer is aborted and sent again later."""
        self._thread.join(timeout_s)
        association = self._association
        if self._thread.is_alive() and association is not None:
            association.abort()
            self._thread.join(1.0)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                waits_s = self._deliver_due()
            except Exception as error:  # noqa: BLE001  the thread must outlive what nobody planned
                _log.error(
                    "delivery_worker_error",
                    destination=self.destination.name,
                    problem=type(error).__name__,
                    exc_info=True,
                )
                waits_s = _PAUSE_AFTER_ERROR_S
            if waits_s > 0 and not self._stop.is_set():
                self._wake.wait(waits_s)

    def _deliver_due(self) -> float:
        """Delivers the next parcel that is due; returns how long there is nothing to do."""
        name = self.destination.name
        due = self._queue.next_due(name)
        QUEUE_DEPTH.labels(f"delivery:{name}").set(self._queue.depth(name))
        if due is None:
            return _LOOK_UP_S
        waits_s = (due - utc_now()).total_seconds()
        if waits_s > 0:
            return min(waits_s, self._probe(), _LOOK_UP_S)
        parcel = self._queue.claim(name, self._lease_s)
        if parcel is not None:
            with span("reporting.deliver", destination=name, job=hashed(parcel.job_uid)):
                self._deliver(parcel)
        return 0.0

    def _probe(self) -> float:
        """Asks a destination that was not reached; how long until it may be asked again."""
        name = self.destination.name
        if not self._queue.waits_for_reach(name):
            return _LOOK_UP_S
        waits_s = self._probing.waits_s()
        if waits_s > 0:
            return waits_s
        if not answers(self.destination, self._hold):
            self._probing.not_reached()
            return self._probing.waits_s()
        self._probing.answered()
        cut = self._queue.cut_short(name)
        _log.info("destination_answers_again", destination=name, deliveries=cut)
        return 0.0

    def _reached(self) -> None:
        """A result has arrived: what waits for this destination need not wait any more.

        What it refused for now is tried again too, but not after each result that it takes: it may
        be the object that it has no room for.
        """
        self._probing.reached()
        now = time.monotonic()
        all_of_them = now - self._all_cut_at >= _SUCCESS_CUTS_EVERY_S
        if all_of_them:
            self._all_cut_at = now
        self._queue.cut_short(self.destination.name, all_of_them=all_of_them)

    def _deliver(self, parcel: Parcel) -> None:
        crashpoint("reporting.send.begin")
        begun = time.perf_counter()
        rest = self._not_spent(parcel)
        if not rest:
            return
        # One wait for the whole parcel: what belongs together is tried again together.
        delay_s = self._backoff_s(max(delivery.attempts for delivery in rest))
        classes = [delivery.sop_class_uid for delivery in rest]
        try:
            with associate(self.destination, classes, self._hold) as association:
                while rest and not self._stop.is_set():
                    if not self._queue.prolong(rest, self._lease_s):
                        break  # the lease had lapsed and another replica has a part of it
                    delivery = rest[0]
                    attempt = self._send(association, rest)
                    if self._settle(delivery, attempt, delay_s) is Outcome.RETRY:
                        self._postpone(rest[1:], delivery, attempt, delay_s)
                        rest.clear()
                        break
                    rest.pop(0)
        except AssociationFailed as failure:
            self._probing.not_reached()
            for delivery in rest:
                attempt = Attempt(Outcome.RETRY, str(failure), not_reached=True)
                self._settle(delivery, attempt, delay_s)
            rest.clear()
        except Exception as error:
            # Counted as an attempt: what nobody planned must have an end too.
            reason = f"sending failed ({type(error).__name__})"
            for delivery in rest:
                self._settle(delivery, Attempt(Outcome.RETRY, reason), delay_s)
            rest.clear()
            raise
        finally:
            self._association = None
            for delivery in rest:
                self._queue.put_back(delivery)
        _log.info(
            "parcel_ended",
            destination=self.destination.name,
            job=hashed(parcel.job_uid),
            objects=len(parcel.deliveries),
            seconds=round(time.perf_counter() - begun, 3),
        )

    def _send(self, association: Association, rest: list[Delivery]) -> Attempt:
        """Sends the first of the rest; the lease of all is prolonged while it goes out."""
        delivery = rest[0]
        key = delivery.store_key
        try:
            with self._store.local([key]) as files:
                return association.store(files[key], delivery, self._holding(rest))
        except ObjectMissing:
            return Attempt(Outcome.PERMANENT, "the file is not in the study store")
        except StoreError:
            # The error's own text names the object; the row does so already.
            return Attempt(Outcome.RETRY, "the study store does not give its file")

    def _holding(self, rest: list[Delivery]) -> Callable[[], None]:
        """What prolongs the lease, as often as an object that takes long needs it."""
        due = time.monotonic() + self._lease_s / 3

        def on_progress() -> None:
            nonlocal due
            if time.monotonic() >= due:
                self._queue.prolong(rest, self._lease_s)
                due = time.monotonic() + self._lease_s / 3

        return on_progress

    def _not_spent(self, parcel: Parcel) -> list[Delivery]:
        """What may still be tried; the rest is dead.

        An attempt that ended without a word, with its process or with its lease, was one too.
        """
        left: list[Delivery] = []
        for delivery in parcel.deliveries:
            if delivery.attempts <= self.destination.max_attempts:
                left.append(delivery)
                continue
            reason = "its attempts ended without a word"
            held = self._queue.give_up(delivery, reason)
            self._report(delivery, "dead", reason, held)
        return left

    def _hold(self, association: Association) -> None:
        self._association = association

    def _settle(self, delivery: Delivery, attempt: Attempt, delay_s: float) -> Outcome:
        """Writes down how an attempt ended; one too many is dead."""
        note = attempt.note
        if attempt.outcome is Outcome.DELIVERED:
            crashpoint("reporting.send.done")
            held = self._queue.delivered(delivery, note)
            outcome = "delivered"
            self._reached()
        elif attempt.outcome is Outcome.RETRY and delivery.attempts < self.destination.max_attempts:
            held = self._queue.retry(delivery, note or "", delay_s, not_reached=attempt.not_reached)
            outcome = "retry"
        else:
            held = self._queue.dead(delivery, note or "")
            outcome = "dead"
        self._report(delivery, outcome, note, held)
        return attempt.outcome

    def _report(self, delivery: Delivery, outcome: str, note: str | None, held: bool) -> None:
        """Counts and logs how an attempt ended."""
        DELIVERIES.labels(self.destination.name, outcome).inc()
        report = _log.info if outcome == "delivered" else _log.warning
        report(
            "delivery_ended" if outcome != "retry" else "delivery_postponed",
            destination=self.destination.name,
            instance=hashed(delivery.sop_instance_uid),
            kind=delivery.kind,
            outcome=outcome,
            attempts=delivery.attempts,
            note=note,
            held=held,
        )

    def _postpone(
        self, rest: list[Delivery], failed: Delivery, attempt: Attempt, delay_s: float
    ) -> None:
        """What refers to an object that did not arrive waits with it, and fails with it."""
        for delivery in rest:
            reason = f"waits for the {failed.kind} it refers to ({attempt.note})"
            self._settle(delivery, Attempt(Outcome.RETRY, reason), delay_s)

    def _backoff_s(self, attempts: int) -> float:
        """The wait after a failed attempt: doubled each time, with jitter, bounded."""
        destination = self.destination
        doubled = destination.first_backoff_s * 2.0 ** min(attempts - 1, 32)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret depends on it
        return min(doubled, destination.longest_backoff_s) * jitter

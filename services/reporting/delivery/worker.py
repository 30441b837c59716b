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
from services.common.lifecycle import DeliveryState
from services.common.settings import AnyDestination
from services.common.store import ObjectMissing, StoreError, StudyStore
from services.common.telemetry import get_logger, span
from services.common.telemetry.metrics import DELIVERIES, QUEUE_DEPTH
from services.dimse.statuses import SendOutcome
from services.reporting.delivery.probing import Probing
from services.reporting.delivery.queue import DeliveryQueue, Parcel
from services.reporting.delivery.rows import Delivery
from services.reporting.delivery.transports.registry import transport_for
from services.reporting.delivery.transports.transport import Attempt, Line, NotReached

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

_S = DeliveryState
# How the counter and the log call it.
_OUTCOMES = {_S.DELIVERED: "delivered", _S.WAITING: "retry", _S.DEAD: "dead"}

_log = get_logger("reporting")


class DestinationWorker:
    """Delivers to one destination, in a thread of its own."""

    def __init__(
        self, destination: AnyDestination, queue: DeliveryQueue, store: StudyStore
    ) -> None:
        self.destination = destination
        self._queue = queue
        self._store = store
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._line: Line | None = None
        self._thread = threading.Thread(
            target=self._run, name=f"deliver:{destination.name}", daemon=True
        )
        self._probing = Probing(destination.probe_period_s, destination.longest_backoff_s)
        self._all_cut_at = -_SUCCESS_CUTS_EVERY_S
        self._transport = transport_for(destination)
        self._lease_s = self._transport.longest_silence_s + _LEASE_MARGIN_S

    def start(self) -> None:
        """Starts delivering."""
        self._thread.start()

    def wake(self) -> None:
        """Says that there may be something to deliver."""
        self._wake.set()

    def request_stop(self) -> None:
        """Asks the worker to end after the object under way."""
        self._stop.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Waits for its end; an object that takes longer is aborted and sent again later."""
        self._thread.join(timeout_s)
        line = self._line
        if self._thread.is_alive() and line is not None:
            line.abort()
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
        if not self._transport.probe(self._opened):
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
        unsent = self._not_spent(parcel)
        if not unsent:
            return
        # One wait for the whole parcel: what belongs together is tried again together.
        delay_s = self._backoff_s(max(delivery.attempts for delivery in unsent))
        try:
            with self._transport.open(unsent, self._opened) as line:
                while unsent and not self._stop.is_set():
                    if not self._queue.prolong(unsent, self._lease_s):
                        break  # the lease had lapsed and another replica has a part of it
                    delivery = unsent[0]
                    attempt = self._send(line, unsent)
                    unsent.remove(delivery)
                    ended = self._end_attempt(delivery, attempt, delay_s)
                    if ended is _S.WAITING:
                        self._postpone(unsent, delivery, attempt, delay_s)
                        unsent.clear()
                    elif ended is _S.DEAD:
                        self._hold_back(unsent, delivery)
        except NotReached as failure:
            self._probing.not_reached()
            self._end_all(
                unsent, Attempt(SendOutcome.RETRY, str(failure), not_reached=True), delay_s
            )
        except Exception as error:
            # Counted as an attempt: what nobody planned must have an end too.
            _log.error("sending_broke_off", kind=type(error).__name__)
            reason = "sending broke off for a reason that nobody foresaw; the log has it"
            self._end_all(unsent, Attempt(SendOutcome.RETRY, reason), delay_s)
            raise
        finally:
            self._line = None
            for delivery in unsent:
                self._queue.put_back(delivery)
        _log.info(
            "parcel_ended",
            destination=self.destination.name,
            job=hashed(parcel.job_uid),
            objects=len(parcel.deliveries),
            seconds=round(time.perf_counter() - begun, 3),
        )

    def _send(self, line: Line, unsent: list[Delivery]) -> Attempt:
        """Sends the first of what is unsent; the lease of all is prolonged while it goes out."""
        delivery = unsent[0]
        key = delivery.store_key
        try:
            with self._store.local([key]) as files:
                return line.send(files[key], delivery, self._holding(unsent))
        except ObjectMissing:
            return Attempt(SendOutcome.PERMANENT, "the file is not in the study store")
        except StoreError:
            # The error's own text names the object; the row does so already.
            return Attempt(SendOutcome.RETRY, "the study store does not give its file")

    def _holding(self, unsent: list[Delivery]) -> Callable[[], None]:
        """What prolongs the lease, as often as an object that takes long needs it."""
        due = time.monotonic() + self._lease_s / 3

        def on_progress() -> None:
            nonlocal due
            if time.monotonic() >= due:
                self._queue.prolong(unsent, self._lease_s)
                due = time.monotonic() + self._lease_s / 3

        return on_progress

    def _not_spent(self, parcel: Parcel) -> list[Delivery]:
        """What may still be tried; the others are dead.

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
            self._hold_back(left, delivery)
        return left

    def _opened(self, line: Line) -> None:
        self._line = line

    def _end_all(self, unsent: list[Delivery], attempt: Attempt, delay_s: float) -> None:
        """Writes down that all that is unsent ended alike; nothing is left of it."""
        while unsent:
            delivery = unsent.pop(0)
            if self._end_attempt(delivery, attempt, delay_s) is _S.DEAD:
                self._hold_back(unsent, delivery)

    def _end_attempt(self, delivery: Delivery, attempt: Attempt, delay_s: float) -> DeliveryState:
        """Writes down how an attempt ended; one too many is dead."""
        note = attempt.note
        if attempt.outcome is SendOutcome.DELIVERED:
            crashpoint("reporting.send.done")
            held = self._queue.delivered(delivery, note)
            ended = _S.DELIVERED
            self._reached()
        elif (
            attempt.outcome is SendOutcome.RETRY
            and delivery.attempts < self.destination.max_attempts
        ):
            held = self._queue.retry(delivery, note or "", delay_s, not_reached=attempt.not_reached)
            ended = _S.WAITING
        else:
            held = self._queue.dead(delivery, note or "")
            ended = _S.DEAD
        self._report(delivery, _OUTCOMES[ended], note, held)
        return ended

    def _hold_back(self, unsent: list[Delivery], dead: Delivery) -> None:
        """Takes out of what is unsent what the queue holds back with a dead delivery."""
        for delivery in [each for each in unsent if self._queue.needs(each, dead)]:
            unsent.remove(delivery)
            self._report(delivery, "held", f"refers to the {dead.kind}, which is dead", True)

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
        self, unsent: list[Delivery], failed: Delivery, attempt: Attempt, delay_s: float
    ) -> None:
        """What belongs to an object that did not arrive waits with it."""
        for delivery in unsent:
            refers = "it refers to" if self._queue.needs(delivery, failed) else "of its job"
            reason = f"waits for the {failed.kind} {refers} ({attempt.note})"
            self._end_attempt(delivery, Attempt(SendOutcome.RETRY, reason), delay_s)

    def _backoff_s(self, attempts: int) -> float:
        """The wait after a failed attempt: doubled each time, with jitter, bounded."""
        destination = self.destination
        doubled = destination.first_backoff_s * 2.0 ** min(attempts - 1, 32)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret depends on it
        return min(doubled, destination.longest_backoff_s) * jitter

"""The durable queue of deliveries: rows, claimed by one sender at a time.

The unit of work is a *parcel*: what one job has for one destination, what refers to another object
after that. States change only along `DELIVERY_TRANSITIONS`, and only where the row still is in
the state that the change starts from, so that of two senders one gets it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, case, func, select

from services.common.database import DeliveryRow, JobRow, utc_now
from services.common.identity import derived_uid
from services.common.lifecycle import DeliveryState, JobState
from services.common.settings import AnyDestination
from services.reporting.database import insert_new
from services.reporting.delivery.holding import hold_back, set_free
from services.reporting.delivery.resending import Resent, Wanted, resend
from services.reporting.delivery.rows import (
    READY,
    RELEASED,
    Delivery,
    count,
    first_due,
    move,
    nothing_before_it_under_way,
    ready,
    results_of,
    values_of,
    wanted_by,
    withdraw_rows,
)
from services.reporting.errors import JobError
from services.reporting.kinds.registry import KINDS, Kinds
from services.reporting.predecessor import certain_predecessors

_S = DeliveryState


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a job has for a destination now, in the order of sending."""

    job_uid: str
    deliveries: tuple[Delivery, ...]


class DeliveryQueue:
    """The deliveries in the database, as one sender sees them."""

    def __init__(self, engine: Engine, sender: str, kinds: Kinds = KINDS) -> None:
        self._engine = engine
        self._sender = sender
        self._kinds = kinds

    def enqueue(self, job_uid: str, destinations: Sequence[AnyDestination]) -> int:
        """Puts the results of a job on the queues; a repeated call changes nothing.

        Returns:
            How many deliveries the job has.

        Raises:
            JobError: the job has no registered results.
        """
        with self._engine.begin() as connection:
            self._insert(connection, job_uid, destinations)
            return count(connection, DeliveryRow.job_uid == job_uid)

    def claim(self, destination: str, lease_s: float) -> Parcel | None:
        """Claims the oldest parcel that is due; None when none is.

        A superseded job's parcel is withdrawn from the queue instead.
        """
        now = utc_now()
        with self._engine.begin() as connection:
            self._put_back_lapsed(connection, destination, now)
            hold_back(connection, self._kinds, destination)
            while (job_uid := first_due(connection, destination, now)) is not None:
                superseded = connection.execute(
                    select(JobRow.job_uid).where(
                        JobRow.job_uid == job_uid, JobRow.state == JobState.SUPERSEDED.value
                    )
                ).first()
                if superseded is not None:
                    withdraw_rows(connection, [job_uid], destination)
                    continue
                deliveries = self._claim_job(connection, destination, job_uid, now, lease_s)
                return Parcel(job_uid, deliveries) if deliveries else None
        return None

    def prolong(self, deliveries: Sequence[Delivery], lease_s: float) -> bool:
        """Prolongs the lease of the deliveries that are left of a parcel.

        Of all, also while the parcel's first object is under way: no other sender may send an
        object before the one that it refers to. False when another sender has claimed any of them
        meanwhile.
        """
        with self._engine.begin() as connection:
            held = move(
                connection,
                (
                    DeliveryRow.delivery_uid.in_([each.delivery_uid for each in deliveries]),
                    DeliveryRow.sender == self._sender,
                ),
                (_S.SENDING,),
                _S.SENDING,
                lease_until=_later(lease_s),
            )
        return held == len(deliveries)

    def delivered(self, delivery: Delivery, note: str | None) -> bool:
        """Notes that the destination has a delivery; those held for want of it follow.

        Returns:
            False where this sender no longer holds the delivery, and nothing was noted.
        """

        def follow(connection: Connection) -> None:
            of_its_job = (
                DeliveryRow.destination == delivery.destination,
                DeliveryRow.job_uid == delivery.job_uid,
            )
            set_free(connection, self._kinds, of_its_job)

        return self._end_attempt(
            delivery, _S.DELIVERED, follow, delivered_at=utc_now(), last_error=note, **RELEASED
        )

    def retry(
        self, delivery: Delivery, error: str, delay_s: float, *, not_reached: bool = False
    ) -> bool:
        """Has a delivery tried again, after a delay or when the destination is there again.

        Args:
            delivery: that did not arrive.
            error: why, as a sentence.
            delay_s: the longest wait before the next attempt.
            not_reached: there was no association.

        Returns:
            False where this sender no longer holds the delivery, and nothing was noted.
        """
        return self._end_attempt(
            delivery,
            _S.WAITING,
            last_error=error,
            next_attempt_at=_later(delay_s),
            not_reached=not_reached,
            **RELEASED,
        )

    def waits_for_reach(self, destination: str) -> bool:
        """Whether something waits because the destination was not reached."""
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            return bool(
                count(connection, *self._waiting(destination), DeliveryRow.not_reached.is_(True))
            )

    def cut_short(self, destination: str, *, all_of_them: bool = False) -> int:
        """Ends the pauses of deliveries that wait for a destination; returns how many.

        Args:
            destination: its name.
            all_of_them: also of deliveries that the destination refused, not only of those that did
                not reach the destination.
        """
        conditions = self._waiting(destination)
        if not all_of_them:
            conditions = (*conditions, DeliveryRow.not_reached.is_(True))
        with self._engine.begin() as connection:
            return move(
                connection,
                conditions,
                (_S.WAITING,),
                _S.WAITING,
                next_attempt_at=utc_now(),
                not_reached=False,
            )

    def _waiting(self, destination: str) -> tuple[Any, ...]:
        return (
            DeliveryRow.destination == destination,
            DeliveryRow.state == _S.WAITING.value,
            DeliveryRow.next_attempt_at > utc_now(),
        )

    def dead(self, delivery: Delivery, error: str) -> bool:
        """Gives a delivery up unless a person says otherwise; holds back what refers to it.

        Returns:
            False where this sender no longer holds the delivery, and nothing was noted.
        """
        return self._end_attempt(
            delivery, _S.DEAD, self._holding_back(delivery), last_error=error, **RELEASED
        )

    def give_up(self, delivery: Delivery, error: str) -> bool:
        """As `dead`, of a delivery whose attempts were spent before it was claimed."""
        return self._end_attempt(
            delivery,
            _S.DEAD,
            self._holding_back(delivery),
            attempts=delivery.attempts - 1,
            last_error=func.coalesce(DeliveryRow.last_error, error),
            **RELEASED,
        )

    def needs(self, delivery: Delivery, other: Delivery) -> bool:
        """Whether a delivery's result refers to the other's, by way of further results too."""
        return self._kinds.refers(delivery.kind, other.kind)

    def put_back(self, delivery: Delivery) -> bool:
        """Puts a delivery back that was claimed and not tried: the sender stops."""
        return self._end_attempt(delivery, _S.PENDING, attempts=delivery.attempts - 1, **RELEASED)

    def put_back_own(self) -> int:
        """Puts back what this sender was sending when it died; for the sender's start."""
        with self._engine.begin() as connection:
            return move(
                connection,
                (DeliveryRow.sender == self._sender,),
                (_S.SENDING,),
                _S.PENDING,
                next_attempt_at=utc_now(),
                **RELEASED,
            )

    def next_due(self, destination: str) -> dt.datetime | None:
        """When the next parcel or the next lapsed lease is due; None when there is nothing."""
        when = case(
            (DeliveryRow.state == _S.SENDING.value, DeliveryRow.lease_until),
            else_=DeliveryRow.next_attempt_at,
        )
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            return connection.execute(
                select(func.min(when, type_=DeliveryRow.next_attempt_at.type)).where(
                    DeliveryRow.destination == destination,
                    DeliveryRow.state.in_([*values_of(READY), _S.SENDING.value]),
                    nothing_before_it_under_way(),
                )
            ).scalar_one()

    def depth(self, destination: str) -> int:
        """How many deliveries have not ended."""
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            return count(
                connection,
                DeliveryRow.destination == destination,
                DeliveryRow.state.in_([*values_of(READY), _S.SENDING.value]),
            )

    def unknown_destinations(self, known: Iterable[str]) -> dict[str, int]:
        """Deliveries that have not ended, for destinations that are not configured any more."""
        with self._engine.connect().execution_options(axial_readonly=True) as connection:
            rows = connection.execute(
                select(DeliveryRow.destination, func.count())
                .where(
                    DeliveryRow.destination.not_in(list(known)),
                    DeliveryRow.state.in_([*values_of(READY), _S.SENDING.value]),
                )
                .group_by(DeliveryRow.destination)
            ).all()
        return {str(name): int(number) for name, number in rows}

    def withdraw(self, job_uids: Sequence[str], destinations: Sequence[AnyDestination]) -> int:
        """Takes the results of superseded jobs off the queues, as far as they have not left.

        Results that were never released are entered as withdrawn, so that a release that comes
        late sends nothing.
        """
        with self._engine.begin() as connection:
            for job_uid in job_uids:
                if results_of(connection, job_uid):
                    self._insert(connection, job_uid, destinations)
            return withdraw_rows(connection, job_uids)

    def resend(self, wanted: Wanted, *, delivered: bool = False) -> Resent:
        """Puts deliveries back on their queue; see `resending.resend`.

        Raises:
            JobError: nothing is named, or there is no such delivery.
        """
        with self._engine.begin() as connection:
            return resend(connection, self._kinds, wanted, delivered=delivered)

    def _insert(
        self, connection: Connection, job_uid: str, destinations: Sequence[AnyDestination]
    ) -> None:
        results = results_of(connection, job_uid)
        if not results:
            raise JobError(f"Job {job_uid} has no results; make them first.")
        now = utc_now()
        replaced = self._replaced(connection, job_uid)
        rows = [
            {
                "delivery_uid": derived_uid("delivery", result.sop_instance_uid, destination.name),
                "job_uid": job_uid,
                "sop_instance_uid": result.sop_instance_uid,
                "destination": destination.name,
                "sequence": result.sequence,
                "state": _S.PENDING.value,
                "attempts": 0,
                "next_attempt_at": now,
                "created_at": now,
            }
            for destination in destinations
            for result in wanted_by(
                results, job_uid, destination, self._kinds, replaced.get(destination.name, "")
            )
        ]
        insert_new(connection, DeliveryRow, rows)

    def _replaced(self, connection: Connection, job_uid: str) -> Mapping[str, str]:
        """By destination, the earlier result there that this job's is to name."""
        replaced: dict[str, str] = {}
        for kind in self._kinds:
            if kind.names.names_predecessor:
                replaced |= certain_predecessors(connection, job_uid, kind.name)
        return replaced

    def _claim_job(
        self,
        connection: Connection,
        destination: str,
        job_uid: str,
        now: dt.datetime,
        lease_s: float,
    ) -> tuple[Delivery, ...]:
        claimed: list[Delivery] = []
        for delivery in ready(connection, destination, job_uid):
            moved = move(
                connection,
                (DeliveryRow.delivery_uid == delivery.delivery_uid,),
                READY,
                _S.SENDING,
                sender=self._sender,
                lease_until=now + dt.timedelta(seconds=lease_s),
                attempts=delivery.attempts,
            )
            if not moved:
                break  # another sender has the parcel
            claimed.append(delivery)
        return tuple(claimed)

    def _put_back_lapsed(self, connection: Connection, destination: str, now: dt.datetime) -> None:
        """Puts back what a sender holds whose lease has lapsed."""
        move(
            connection,
            (DeliveryRow.destination == destination, DeliveryRow.lease_until < now),
            (_S.SENDING,),
            _S.PENDING,
            next_attempt_at=now,
            **RELEASED,
        )

    def _holding_back(self, delivery: Delivery) -> Callable[[Connection], None]:
        def hold(connection: Connection) -> None:
            hold_back(
                connection,
                self._kinds,
                delivery.destination,
                job_uid=delivery.job_uid,
                sender=self._sender,
            )

        return hold

    def _end_attempt(
        self,
        delivery: Delivery,
        wanted: DeliveryState,
        then: Callable[[Connection], None] | None = None,
        **values: Any,
    ) -> bool:
        """Writes down how an attempt ended, where this sender still holds the delivery.

        Args:
            then: what follows from it for other deliveries, in the same transaction.
        """
        with self._engine.begin() as connection:
            moved = move(
                connection,
                (
                    DeliveryRow.delivery_uid == delivery.delivery_uid,
                    DeliveryRow.sender == self._sender,
                ),
                (_S.SENDING,),
                wanted,
                **values,
            )
            if moved and then is not None:
                then(connection)
            return bool(moved)


def _later(seconds: float) -> dt.datetime:
    return utc_now() + dt.timedelta(seconds=seconds)

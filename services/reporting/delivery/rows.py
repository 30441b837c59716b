"""The rows of deliveries: which are due, in what order, and how their state changes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.orm import aliased

from services.common.database import DeliveryRow, ResultRow
from services.common.lifecycle import DELIVERY_TRANSITIONS, DeliveryState, require
from services.common.settings import AnyDestination
from services.reporting.kinds.registry import Kinds
from services.reporting.objects.forms import PLAIN

_S = DeliveryState
READY = (_S.PENDING, _S.WAITING)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One result on its way to one destination.

    Attributes:
        attempts: including the attempt under way.
    """

    delivery_uid: str
    job_uid: str
    destination: str
    sop_instance_uid: str
    sop_class_uid: str
    kind: str
    store_key: str
    digest: str
    attempts: int


RELEASED: Mapping[str, None] = {"sender": None, "lease_until": None}


def move(
    connection: Connection,
    conditions: tuple[Any, ...],
    current: tuple[DeliveryState, ...],
    wanted: DeliveryState,
    **values: Any,
) -> int:
    """Changes the state of rows that are in one of `current`.

    Returns:
        How many rows that were.
    """
    for state in current:
        require(DELIVERY_TRANSITIONS, state, wanted, "A delivery")
    done = connection.execute(
        update(DeliveryRow)
        .where(*conditions, DeliveryRow.state.in_(values_of(current)))
        .values(state=wanted.value, **values)
    )
    return int(done.rowcount)


def withdraw_rows(
    connection: Connection, job_uids: Sequence[str], destination: str | None = None
) -> int:
    """Withdraws deliveries that have not left from the queues, held and dead ones too.

    Args:
        connection: in whose transaction.
        job_uids: of these jobs.
        destination: from this destination's queue alone; None for all.

    Returns:
        How many deliveries that were.
    """
    conditions: list[Any] = [DeliveryRow.job_uid.in_(list(job_uids))]
    if destination is not None:
        conditions.append(DeliveryRow.destination == destination)
    waiting = (_S.PENDING, _S.WAITING, _S.DEAD, _S.HELD)
    return move(connection, tuple(conditions), waiting, _S.WITHDRAWN)


def _due(destination: str, now: dt.datetime) -> tuple[Any, ...]:
    return (
        DeliveryRow.destination == destination,
        DeliveryRow.state.in_(values_of(READY)),
        DeliveryRow.next_attempt_at <= now,
        nothing_before_it_under_way(),
    )


def nothing_before_it_under_way() -> Any:
    """The condition that no sender has an earlier result of the same job on its way."""
    before = aliased(DeliveryRow)
    return ~(
        select(before.delivery_uid)
        .where(
            before.job_uid == DeliveryRow.job_uid,
            before.destination == DeliveryRow.destination,
            before.sequence < DeliveryRow.sequence,
            before.state == _S.SENDING.value,
        )
        .correlate(DeliveryRow)
        .exists()
    )


def first_due(connection: Connection, destination: str, now: dt.datetime) -> str | None:
    """The job whose parcel has been due for longest."""
    return connection.execute(
        select(DeliveryRow.job_uid)
        .where(*_due(destination, now))
        .order_by(DeliveryRow.next_attempt_at, DeliveryRow.created_at, DeliveryRow.sequence)
        .limit(1)
    ).scalar()


def ready(connection: Connection, destination: str, job_uid: str) -> list[Delivery]:
    """A job's waiting deliveries, with their attempts as counted after the next one.

    Also those that are due a little later: an SR must not arrive before its SEG.
    """
    rows = connection.execute(
        select(
            DeliveryRow.delivery_uid,
            DeliveryRow.job_uid,
            DeliveryRow.destination,
            DeliveryRow.sop_instance_uid,
            ResultRow.sop_class_uid,
            ResultRow.kind,
            ResultRow.store_key,
            ResultRow.digest,
            (DeliveryRow.attempts + 1).label("attempts"),
        )
        .join(ResultRow, ResultRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
        .where(
            DeliveryRow.destination == destination,
            DeliveryRow.job_uid == job_uid,
            DeliveryRow.state.in_(values_of(READY)),
            nothing_before_it_under_way(),
        )
        .order_by(DeliveryRow.sequence, DeliveryRow.delivery_uid)
    )
    return [Delivery(**row) for row in rows.mappings()]


def results_of(connection: Connection, job_uid: str) -> list[Any]:
    """The registered results of a job."""
    return list(
        connection.execute(
            select(
                ResultRow.sop_instance_uid,
                ResultRow.series_uid,
                ResultRow.kind,
                ResultRow.form,
                ResultRow.sequence,
            ).where(ResultRow.job_uid == job_uid)
        ).all()
    )


def wanted_by(
    results: Sequence[Any], job_uid: str, destination: AnyDestination, kinds: Kinds, follows: str
) -> list[Any]:
    """The results of the kinds and in the form that a destination wants.

    All kinds have one form: what refers to another object goes with that object. A form that was
    not made for every kind (the destination was configured later) is replaced by a plainer one; a
    kind of which the job has nothing at all does not matter.

    Args:
        results: of `results_of`.
        job_uid: the job.
        destination: that wants them.
        kinds: all kinds.
        follows: SOP Instance UID of the earlier result that the destination has and that the new
            result is to name; empty for none.
    """
    offered = [result for result in results if result.kind in destination.kinds]
    known = [kind for kind in kinds if any(result.kind == kind.name for result in offered)]
    # Of newer code: what it calls plain is plain.
    foreign = [result for result in offered if result.kind not in kinds.names and not result.form]
    asked = kinds.form_for(destination, follows)
    for form in (asked, asked.alone(), PLAIN):
        series = {kind.names.series_uid(job_uid, form) for kind in known}
        chosen = [result for result in offered if result.series_uid in series]
        if len({result.kind for result in chosen}) == len(known):
            return chosen + foreign
    return foreign


def count(connection: Connection, *conditions: Any) -> int:
    """How many deliveries meet all conditions."""
    return connection.execute(
        select(func.count()).select_from(DeliveryRow).where(*conditions)
    ).scalar_one()


def values_of(states: tuple[DeliveryState, ...]) -> list[str]:
    """States as the table holds them."""
    return [state.value for state in states]

"""Holding back what refers to a result that its destination does not have.

A report names the segmentation that its numbers are of: where a destination refused that, the
report would be a reference into nothing. It is *held* until the destination has the segmentation
after all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, select
from sqlalchemy.orm import aliased

from services.common.database import DeliveryRow, ResultRow, utc_now
from services.common.lifecycle import DeliveryState
from services.reporting.delivery.rows import READY, RELEASED, move, values_of
from services.reporting.kinds.registry import Kinds

_S = DeliveryState
_WILL_NOT_ARRIVE = (_S.DEAD, _S.HELD)


def hold_back(
    connection: Connection,
    kinds: Kinds,
    destination: str,
    *,
    job_uid: str | None = None,
    sender: str | None = None,
) -> int:
    """Holds back what refers to a dead delivery to the same destination.

    Args:
        job_uid: of this job only; None for all.
        sender: also what this sender has claimed and not tried yet.

    Returns:
        How many deliveries are held now that were not before.
    """
    held = 0
    for kind in kinds:
        if not kind.needs:
            continue
        conditions: list[Any] = [
            DeliveryRow.destination == destination,
            DeliveryRow.sop_instance_uid.in_(_results_of_kind(kind.name)),
            _needed(kind.needs, _WILL_NOT_ARRIVE),
        ]
        if job_uid is not None:
            conditions.append(DeliveryRow.job_uid == job_uid)
        why = {"last_error": why_held(kind.needs), **RELEASED}
        held += move(connection, tuple(conditions), READY, _S.HELD, **why)
        if sender is not None:
            claimed = (*conditions, DeliveryRow.sender == sender)
            # The attempt that it was claimed for was not made.
            untried = {**why, "attempts": DeliveryRow.attempts - 1}
            held += move(connection, claimed, (_S.SENDING,), _S.HELD, **untried)
    return held


def set_free(connection: Connection, kinds: Kinds, conditions: Sequence[Any], **values: Any) -> int:
    """Puts held deliveries back on the queue that refer to no dead delivery any more.

    The results that they refer to have arrived, or go before them.

    Args:
        connection: in whose transaction.
        kinds: say which results refer to which.
        conditions: of the deliveries that are meant.
        values: further columns that are written.

    Returns:
        How many leave again.
    """
    free = 0
    again = {"attempts": 0, "next_attempt_at": utc_now(), "not_reached": False, "last_error": None}
    for kind in kinds:
        if kind.needs:
            held = (
                *conditions,
                DeliveryRow.sop_instance_uid.in_(_results_of_kind(kind.name)),
                ~_needed(kind.needs, _WILL_NOT_ARRIVE),
            )
            free += move(connection, held, (_S.HELD,), _S.PENDING, **again, **values)
    return free


def why_held(needs: Sequence[str]) -> str:
    """The sentence that a held delivery shows."""
    what = " and the ".join(needs)
    return f"the destination does not have the {what} that it refers to"


def _results_of_kind(kind: str) -> Any:
    return select(ResultRow.sop_instance_uid).where(ResultRow.kind == kind)


def _needed(needs: Sequence[str], states: tuple[DeliveryState, ...]) -> ColumnElement[bool]:
    """Whether a delivery of the same job to the same destination is needed and in such a state."""
    other, result = aliased(DeliveryRow), aliased(ResultRow)
    return (
        select(other.delivery_uid)
        .join(result, result.sop_instance_uid == other.sop_instance_uid)
        .where(
            other.job_uid == DeliveryRow.job_uid,
            other.destination == DeliveryRow.destination,
            result.kind.in_(list(needs)),
            other.state.in_(values_of(states)),
        )
        .correlate(DeliveryRow)
        .exists()
    )

"""Sending again what a person asks for: what is dead, what waits, and what was delivered."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Connection, select

from services.common.database import DeliveryRow, JobRow, ResultRow, utc_now
from services.common.lifecycle import ARRIVED, DeliveryState, JobState
from services.reporting.delivery.holding import set_free
from services.reporting.delivery.rows import RELEASED, count, move, values_of
from services.reporting.errors import JobError
from services.reporting.kinds.registry import Kinds

_S = DeliveryState


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries are meant: those of which everything that is given here holds.

    Attributes:
        sop_instance_uid: of a result.
    """

    delivery_uid: str = ""
    destination: str = ""
    study_uid: str = ""
    sop_instance_uid: str = ""

    @property
    def given(self) -> list[str]:
        """What is given, in words."""
        words = {
            "delivery_uid": "delivery",
            "destination": "destination",
            "study_uid": "study",
            "sop_instance_uid": "result",
        }
        values = ((words[each.name], getattr(self, each.name)) for each in fields(self))
        return [f"{word} {value}" for word, value in values if value]


@dataclass(frozen=True, slots=True)
class Resent:
    """What came of a call to send results again.

    Attributes:
        deliveries: how many leave again.
        delivered: how many were left alone because they have arrived.
        superseded: how many were left alone because a newer result replaces them.
        held: how many are held back: the destination lacks what they refer to.
    """

    deliveries: int
    delivered: int = 0
    superseded: int = 0
    held: int = 0


def resend(connection: Connection, kinds: Kinds, wanted: Wanted, *, delivered: bool) -> Resent:
    """Puts deliveries back on their queue, with all their attempts before them.

    Dead and waiting deliveries leave again at once. A delivery under way goes on, and a result that
    a newer one replaces does not leave. A held delivery leaves again together with the result that
    it refers to; else it stays held until the destination has that result.

    Args:
        connection: in whose transaction.
        kinds: say which results refer to which.
        wanted: which deliveries are meant.
        delivered: whether those that have arrived leave again too.

    Raises:
        JobError: nothing is given, or there is no such delivery.
    """
    if not wanted.given:
        raise JobError("Name a study, a result, a destination or a delivery to send again.")
    meant = _conditions(wanted)
    if not count(connection, *meant):
        raise JobError(f"There is no delivery of {', '.join(wanted.given)}.")
    replaced = DeliveryRow.job_uid.in_(
        select(JobRow.job_uid).where(JobRow.state == JobState.SUPERSEDED.value)
    )
    current = (*meant, ~replaced)
    arrived = (*current, DeliveryRow.state.in_(values_of(ARRIVED)))
    again: dict[str, Any] = {"attempts": 0, "next_attempt_at": utc_now(), "not_reached": False}
    put_back = {**again, **RELEASED, "sent_again": DeliveryRow.sent_again + 1}
    left = 0 if delivered else count(connection, *arrived)
    moved = move(connection, current, (_S.DEAD,), _S.PENDING, **put_back)
    moved += move(connection, current, (_S.WAITING,), _S.WAITING, **again)
    if delivered:
        moved += move(connection, current, ARRIVED, _S.PENDING, last_error=None, **put_back)
    moved += set_free(connection, kinds, current, sent_again=DeliveryRow.sent_again + 1)
    held = count(connection, *current, DeliveryRow.state == _S.HELD.value)
    return Resent(moved, left, count(connection, *meant, replaced), held)


def _conditions(wanted: Wanted) -> tuple[Any, ...]:
    conditions: list[Any] = []
    if wanted.delivery_uid:
        conditions.append(DeliveryRow.delivery_uid == wanted.delivery_uid)
    if wanted.destination:
        conditions.append(DeliveryRow.destination == wanted.destination)
    if wanted.sop_instance_uid:
        conditions.append(DeliveryRow.sop_instance_uid == wanted.sop_instance_uid)
    if wanted.study_uid:
        of_study = select(ResultRow.sop_instance_uid).where(ResultRow.study_uid == wanted.study_uid)
        conditions.append(DeliveryRow.sop_instance_uid.in_(of_study))
    return tuple(conditions)

"""Results that a destination does not have and will not get by itself, in sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import DeliveryRow, ResultRow
from services.common.lifecycle import DeliveryState

_STAYS = (DeliveryState.DEAD, DeliveryState.HELD)


def undelivered(session: Session, job_uids: Collection[str]) -> Mapping[str, list[str]]:
    """By job, a sentence for each dead or held delivery; without the other jobs."""
    rows = session.execute(
        select(
            DeliveryRow.job_uid,
            DeliveryRow.destination,
            DeliveryRow.state,
            DeliveryRow.last_error,
            ResultRow.kind,
        )
        .join(ResultRow, ResultRow.sop_instance_uid == DeliveryRow.sop_instance_uid)
        .where(
            DeliveryRow.job_uid.in_(list(job_uids)),
            DeliveryRow.state.in_([state.value for state in _STAYS]),
        )
        .order_by(DeliveryRow.destination, DeliveryRow.sequence)
    )
    sentences: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        why = row.last_error or "no reason is known"
        sentences[row.job_uid].append(f"{row.kind} for {row.destination} is {row.state}: {why}.")
    return sentences

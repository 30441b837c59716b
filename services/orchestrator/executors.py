"""Workers say that they live, and take up the work of those that no longer do.

Every worker has a fixed name. One that restarts takes up its own work at once. One that stays
silent for longer than the timeout is adopted: exactly one other worker claims it in the database
and puts its unfinished workflows back on their queue, whose limits keep holding.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from dbos import DBOS
from sqlalchemy import Engine, delete, or_, select, update
from sqlalchemy.orm import Session

from services.common.crashpoints import crashpoint
from services.common.database import ExecutorRow, utc_now
from services.common.settings import OrchestratorSettings
from services.common.telemetry import get_logger, metrics
from services.orchestrator.periodic import PeriodicThread
from services.orchestrator.work_queue import WorkQueue

_log = get_logger("orchestrator")


def beat(engine: Engine, executor_id: str) -> None:
    """Writes that this worker lives."""
    with Session(engine) as session, session.begin():
        session.merge(ExecutorRow(executor_id=executor_id, beat_at=utc_now(), adopted_by=None))


def claim_dead(engine: Engine, executor_id: str, timeout_s: float) -> list[str]:
    """Claims every worker that has been silent for `timeout_s`; each is claimed once.

    A worker whose claimer died in turn is claimed again; a worker that this one claimed is returned
    until it is forgotten. The workers' clocks must agree to well within the timeout.
    """
    deadline = utc_now() - dt.timedelta(seconds=timeout_s)
    if not _any_silent(engine, executor_id, deadline):
        return []  # the usual case takes no write lock
    with Session(engine) as session, session.begin():
        alive = set(
            session.scalars(select(ExecutorRow.executor_id).where(ExecutorRow.beat_at >= deadline))
        ) | {executor_id}
        silent = session.scalars(
            select(ExecutorRow)
            .where(ExecutorRow.beat_at < deadline, ExecutorRow.executor_id != executor_id)
            .with_for_update(skip_locked=True)
        ).all()
        claimed: list[str] = []
        for row in silent:
            if row.adopted_by == executor_id:
                # Claimed by us before, and not forgotten since: we may have died in between.
                claimed.append(row.executor_id)
                continue
            if row.adopted_by in alive:
                continue
            changed = session.execute(
                update(ExecutorRow)
                .where(
                    ExecutorRow.executor_id == row.executor_id,
                    ExecutorRow.beat_at < deadline,
                    or_(
                        ExecutorRow.adopted_by.is_(None),
                        ExecutorRow.adopted_by == row.adopted_by,
                    ),
                )
                .values(adopted_by=executor_id)
            )
            if changed.rowcount == 1:  # pyright: ignore[reportAttributeAccessIssue]
                claimed.append(row.executor_id)
        return claimed


def forget(engine: Engine, executor_ids: list[str]) -> None:
    """Removes adopted workers from the table; a worker that comes back enters itself again."""
    with Session(engine) as session, session.begin():
        session.execute(delete(ExecutorRow).where(ExecutorRow.executor_id.in_(executor_ids)))


def _any_silent(engine: Engine, executor_id: str, deadline: dt.datetime) -> bool:
    with Session(engine.execution_options(axial_readonly=True)) as session:
        silent = session.scalar(
            select(ExecutorRow.executor_id)
            .where(ExecutorRow.beat_at < deadline, ExecutorRow.executor_id != executor_id)
            .limit(1)
        )
        return silent is not None


def is_alone(engine: Engine, executor_id: str) -> bool:
    """Whether no other worker, living or dead, is on the list."""
    with Session(engine.execution_options(axial_readonly=True)) as session:
        other = select(ExecutorRow.executor_id).where(ExecutorRow.executor_id != executor_id)
        return session.scalar(other.limit(1)) is None


class Heartbeat(PeriodicThread):
    """This worker's heartbeat and its watch over the other workers.

    Args:
        engine: the database.
        settings: name this worker, and say how often it beats and who counts as silent.
        queues: are told whether another worker may put work in, and rung after an adoption.
    """

    def __init__(
        self, engine: Engine, settings: OrchestratorSettings, queues: Sequence[WorkQueue]
    ) -> None:
        every_s = settings.heartbeat_interval_s
        # Where all workers start at once, each has written its first beat before one looks for
        # the silent ones.
        super().__init__("heartbeat", every_s, first_after_s=every_s, failed="heartbeat_failed")
        self._engine = engine
        self._settings = settings
        self._queues = queues

    def _begin(self) -> None:
        beat(self._engine, self._settings.executor_id)

    def _round(self) -> None:
        beat(self._engine, self._settings.executor_id)
        self._adopt()
        alone = is_alone(self._engine, self._settings.executor_id)
        for queue in self._queues:
            queue.know_alone(alone)

    def _adopt(self) -> None:
        timeout_s = self._settings.heartbeat_timeout_s
        dead = claim_dead(self._engine, self._settings.executor_id, timeout_s)
        if not dead:
            return
        crashpoint("orchestrator.adopt.claimed")
        # DBOS's public resume_workflow would take queued workflows off their queue, and with it
        # out of its limits; this is what DBOS's own conductor calls.
        handles = DBOS._recover_pending_workflows(dead)  # pyright: ignore[reportPrivateUsage]
        forget(self._engine, dead)
        for queue in self._queues:
            queue.ring()
        metrics.EXECUTORS_ADOPTED.inc(len(dead))
        _log.warning("executors_adopted", executors=len(dead), workflows=len(handles))

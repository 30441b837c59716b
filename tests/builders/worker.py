"""A worker of the orchestrator under DBOS; a process has one, and it is never made anew."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbos import DBOS
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import FateRow, JobRow, migrate, open_database
from services.orchestrator.stage_context import StageContext
from services.orchestrator.work_queue import JOBS, REVISIONS, WorkQueue
from services.orchestrator.workflow import Workflows
from tests.builders.catalogue import serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

REVISIONS_AT_ONCE = 2


@dataclass(frozen=True)
class Worker:
    """A worker under DBOS; a process has one."""

    context: StageContext
    workflows: Workflows
    folder: Path

    def receive(self, study: str) -> str:
        """Freezes a study with one series that the model wants; returns its UID."""
        files = write_head_like(self.folder / study, study=study, series=f"{study}-t1")
        return register_revision(self.context.engine, files, store=self.context.store)

    def job(self, study_uid: str) -> JobRow | None:
        """The study's only job."""
        with Session(self.context.engine, expire_on_commit=False) as session:
            return session.scalars(select(JobRow).where(JobRow.study_uid == study_uid)).first()

    def reasons(self, study_uid: str) -> list[str]:
        """Why its series ended."""
        with Session(self.context.engine) as session:
            found = select(FateRow.reason).where(FateRow.study_uid == study_uid)
            return list(session.scalars(found))


@contextmanager
def running_worker(folder: Path) -> Generator[Worker]:
    """A worker that selects two revisions and works on one job at a time."""
    engine = open_database(f"sqlite:///{folder / 'axial.sqlite'}")
    migrate(engine)
    context = stage_context(engine, folder)
    serve(context)
    DBOS(
        config={
            "name": "axial",
            "system_database_url": f"sqlite:///{folder / 'dbos.sqlite'}",
            "executor_id": "test",
            "application_version": "1",
            "log_level": "CRITICAL",
        }
    )
    revisions, job_queue = WorkQueue(REVISIONS, REVISIONS_AT_ONCE), WorkQueue(JOBS, 1)
    workflows = Workflows(context, revisions, job_queue)
    DBOS.listen_queues([])
    DBOS.launch()
    for queue in (revisions, job_queue):
        queue.open()
    yield Worker(context, workflows, folder)
    context.stopping.set()
    for queue in (revisions, job_queue):
        queue.close()
    DBOS.destroy()
    engine.dispose()

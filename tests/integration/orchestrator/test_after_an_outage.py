"""After an outage many revisions wait: they come through a few at a time, with flat memory.

REVISIONS=2000 makes it the backlog of a hospital's night.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest
from dbos import DBOS
from sqlalchemy import Engine, func, insert, select

from services.common.database import (
    FateRow,
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
    migrate,
    open_database,
)
from services.orchestrator import workflow
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import select_stage
from services.orchestrator.work_queue import JOBS, REVISIONS, WorkQueue
from services.orchestrator.workflow import Workflows
from tests.builders.catalogue import serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

COUNT = int(os.environ.get("REVISIONS", "200"))
AT_ONCE = 2
# What the first ones leave behind for good (imports, caches, connections) is not counted.
WARM = COUNT // 4
GROWTH_BYTES = 24 << 20


@pytest.fixture
def waiting(tmp_path: Path) -> Generator[tuple[StageContext, list[str]]]:
    """A database of frozen revisions of which nothing was begun."""
    engine = open_database(f"sqlite:///{tmp_path / 'axial.sqlite'}")
    migrate(engine)
    context = stage_context(engine, tmp_path)
    serve(context)
    first = register_revision(
        engine, write_head_like(tmp_path / "head", slices=24), store=context.store
    )
    yield context, [first, *_copies(engine, first, COUNT - 1)]
    engine.dispose()


def _copies(engine: Engine, first: str, count: int) -> list[str]:
    """Studies like the first one, of CT: nothing wants them."""
    studies = [f"{first[:40]}.{number}" for number in range(count)]
    with engine.begin() as connection:
        study = dict(connection.execute(select(StudyRow.__table__)).mappings().one())
        series = dict(connection.execute(select(SeriesRow.__table__)).mappings().one())
        revision = dict(connection.execute(select(RevisionRow.__table__)).mappings().one())
        instances = [
            dict(row) for row in connection.execute(select(InstanceRow.__table__)).mappings()
        ]
        for uid in studies:
            connection.execute(insert(StudyRow).values({**study, "study_uid": uid}))
            connection.execute(
                insert(SeriesRow).values({**series, "study_uid": uid, "series_uid": f"{uid}.1"})
            )
            connection.execute(insert(RevisionRow).values({**revision, "study_uid": uid}))
            copies = [_copy(row, uid, n) for n, row in enumerate(instances)]
            connection.execute(insert(InstanceRow), copies)
            members = [
                {"study_uid": uid, "number": 1, "sop_instance_uid": row["sop_instance_uid"]}
                for row in copies
            ]
            connection.execute(insert(RevisionInstanceRow), members)
    return studies


def _copy(row: dict[str, object], study_uid: str, number: int) -> dict[str, object]:
    header = row["header"]
    assert isinstance(header, dict)
    own = {
        "study_uid": study_uid,
        "series_uid": f"{study_uid}.1",
        "sop_instance_uid": f"{study_uid}.1.{number}",
    }
    attributes = {**header["attributes"], "Modality": "CT"}
    return {**row, **own, "header": {**header, **own, "attributes": attributes}}


def test_what_waited_comes_through_a_few_at_a_time_with_flat_memory(
    waiting: tuple[StageContext, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, studies = waiting
    at_work, most, threads, sizes = [0], [0], [0], list[int]()
    counting = threading.Lock()

    def counted(context: StageContext, study_uid: str, number: int) -> object:
        with counting:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
            threads[0] = max(threads[0], threading.active_count())
        try:
            return select_stage(context, study_uid, number)
        finally:
            with counting:
                at_work[0] -= 1
                sizes.append(psutil.Process().memory_info().rss)

    monkeypatch.setattr(workflow, "select_stage", counted)
    DBOS(
        config={
            "name": "axial",
            "system_database_url": f"sqlite:///{tmp_path / 'dbos.sqlite'}",
            "executor_id": "test",
            "application_version": "1",
            "log_level": "CRITICAL",
        }
    )
    revisions, jobs = WorkQueue(REVISIONS, AT_ONCE), WorkQueue(JOBS, 1)
    workflows = Workflows(context, revisions, jobs)
    DBOS.listen_queues([])
    DBOS.launch()
    revisions.open()  # and no job is begun
    try:
        before = threading.active_count()
        # The first one is wanted, and its job waits; the others are not.
        for study_uid in studies:
            workflows.begin(study_uid, 1)
            workflows.begin(study_uid, 1)  # told twice, begun once
        gc.collect()
        _wait(context.engine)
    finally:
        context.stopping.set()
        revisions.close()
        DBOS.destroy()
    assert len(sizes) == COUNT
    assert most[0] <= AT_ONCE
    assert threads[0] <= before + 40
    assert max(sizes[WARM:]) - sizes[WARM] < GROWTH_BYTES


def _wait(engine: Engine) -> None:
    """Until every study but the wanted one has its fate."""
    deadline = time.monotonic() + 30 + COUNT
    while True:
        with engine.connect() as connection:
            decided = connection.scalar(select(func.count()).select_from(FateRow))
        if decided == COUNT - 1:
            return
        assert time.monotonic() < deadline, decided
        time.sleep(0.1)

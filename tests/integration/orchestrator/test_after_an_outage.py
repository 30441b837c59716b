"""After an outage many revisions wait: they come through a few at a time, with flat memory.

REVISIONS=2000 makes it the backlog of a hospital's night.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, func, insert, select

from services.common.database import (
    Base,
    FateRow,
    InstanceRow,
    RevisionInstanceRow,
    RevisionRow,
    SeriesRow,
    StudyRow,
)
from services.orchestrator import workflow
from services.orchestrator.recording import RecordedSelection
from services.orchestrator.stage_context import StageContext
from services.orchestrator.stages import select_stage
from tests.builders.worker import REVISIONS_AT_ONCE, Worker

COUNT = int(os.environ.get("REVISIONS", "200"))
# What the first ones leave behind for good (imports, caches, connections) is not counted.
WARM = COUNT // 4
GROWTH_BYTES = 24 << 20


@pytest.fixture
def waiting(worker: Worker) -> list[str]:
    """Studies whose revisions were frozen and not begun."""
    first = worker.receive("outage-backlog")
    return _copies(worker.context.engine, first, COUNT)


def _copies(engine: Engine, first: str, count: int) -> list[str]:
    """Studies like the first one, of CT: nothing wants them."""
    studies = [f"{first[:40]}.{number}" for number in range(count)]
    with engine.begin() as connection:

        def rows(table: type[Base]) -> list[dict[str, Any]]:
            of_first = select(table.__table__).where(table.__table__.c.study_uid == first)
            return [dict(row) for row in connection.execute(of_first).mappings()]

        (study,), (series,), (revision,) = rows(StudyRow), rows(SeriesRow), rows(RevisionRow)
        instances = rows(InstanceRow)
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


def _copy(row: dict[str, Any], study_uid: str, number: int) -> dict[str, Any]:
    header: dict[str, Any] = row["header"]
    own = {
        "study_uid": study_uid,
        "series_uid": f"{study_uid}.1",
        "sop_instance_uid": f"{study_uid}.1.{number}",
    }
    attributes = {**header["attributes"], "Modality": "CT"}
    return {**row, **own, "header": {**header, **own, "attributes": attributes}}


def test_what_waited_comes_through_a_few_at_a_time_with_flat_memory(
    worker: Worker, waiting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, most, threads, sizes = [0], [0], [0], list[int]()
    counting = threading.Condition()

    def counted(context: StageContext, study_uid: str, number: int) -> RecordedSelection:
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
                counting.notify_all()

    monkeypatch.setattr(workflow, "select_stage", counted)
    before = threading.active_count()
    for study_uid in waiting:
        worker.workflows.begin(study_uid, 1)
        worker.workflows.begin(study_uid, 1)  # told twice, begun once
    _wait(worker.context.engine, waiting)
    with counting:  # a study has its fate before the stage that gave it has returned
        assert counting.wait_for(lambda: not at_work[0], 60)
    assert len(sizes) == COUNT
    assert most[0] <= REVISIONS_AT_ONCE
    assert threads[0] <= before + 40
    assert max(sizes[WARM:]) - sizes[WARM] < GROWTH_BYTES


def test_no_more_are_worked_on_than_the_limit_however_many_were_given_out(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DBOS gives out more than a queue's limit where it looks twice before the first ones run."""
    at_work, most = [0], [0]
    counting = threading.Lock()
    all_wait = threading.Event()

    def counted(context: StageContext, study_uid: str, number: int) -> RecordedSelection:
        with counting:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        all_wait.wait(0.2)
        with counting:
            at_work[0] -= 1
        return RecordedSelection((), ())

    monkeypatch.setattr(workflow, "select_stage", counted)
    select = worker.workflows._select  # pyright: ignore[reportPrivateUsage]
    with ThreadPoolExecutor(3 * REVISIONS_AT_ONCE) as pool:
        begun = [pool.submit(select, f"1.2.{n}", 1) for n in range(3 * REVISIONS_AT_ONCE)]
        assert [each.result(30) for each in begun] == [([], [])] * len(begun)
    assert most[0] == REVISIONS_AT_ONCE


def _wait(engine: Engine, studies: list[str]) -> None:
    """Until every study has its fate."""
    deadline = time.monotonic() + 30 + COUNT
    prefix = studies[0].rpartition(".")[0]
    while True:
        with engine.connect() as connection:
            decided = connection.scalar(
                select(func.count())
                .select_from(FateRow)
                .where(FateRow.study_uid.startswith(f"{prefix}."))
            )
        if decided == COUNT:
            return
        assert time.monotonic() < deadline, decided
        time.sleep(0.1)

"""A model tells how far a job has come while it works; it is written where people look."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select

from services.common.database import JobRow, migrate, open_database
from services.common.lifecycle import JobState
from services.common.settings import TritonSettings
from services.imaging import Volume
from services.orchestrator.inference import InferenceClient, request_for
from services.orchestrator.progress import ProgressWatch, read_progress, write_progress
from services.orchestrator.sent_volumes import sent
from tests.builders.job_rows import write_job
from tests.builders.network import free_port
from tests.builders.triton import TritonUnderTest
from tests.builders.trust import credentials

DEADLINE_S = 30.0
JOB = "2.25.77"


@pytest.fixture
def engine(sqlite_url: str) -> Generator[Engine]:
    opened = open_database(sqlite_url)
    migrate(opened)
    yield opened
    opened.dispose()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _progress(engine: Engine, job_uid: str) -> float | None:
    with engine.connect() as connection:
        return connection.scalar(select(JobRow.progress).where(JobRow.job_uid == job_uid))


def test_a_jobs_progress_is_there_while_its_model_works(
    small_triton: TritonUnderTest, engine: Engine, tmp_path: Path
) -> None:
    settings = small_triton.settings()
    write_job(engine, JOB, "1.2", JobState.SELECTED)
    volumes = {"image": sent("image", Volume(np.ones((3, 3, 3), np.float32), np.eye(4)), "1.2")}
    go_on = tmp_path / "go on"
    request = request_for(JOB, "d" * 64, "image", volumes, str(go_on))
    with InferenceClient(settings, "axial-progress", credentials("orchestrator")) as client:
        asked = threading.Thread(target=client.infer, args=("telling", request, volumes))
        with ProgressWatch(engine, client, settings, every_s=0.05):
            asked.start()
            try:
                _until(lambda: _progress(engine, JOB) == 0.25)
                assert read_progress(settings) == {JOB: 0.25}
            finally:
                go_on.touch()
                asked.join(DEADLINE_S)
        assert not asked.is_alive()
        _until(lambda: read_progress(settings) == {})


def test_a_job_that_is_not_with_a_model_gets_no_progress(engine: Engine) -> None:
    write_job(engine, "2.25.78", "1.2", JobState.SELECTED)
    write_job(engine, "2.25.79", "1.2", JobState.REPORTED)
    write_progress(engine, {"2.25.78": 0.5, "2.25.79": 0.5, "2.25.80": 0.5})
    assert [_progress(engine, f"2.25.{n}") for n in (78, 79, 80)] == [0.5, None, None]


def test_metrics_that_are_not_there_are_an_error_of_the_network() -> None:
    settings = TritonSettings(grpc_address="127.0.0.1:1", metrics_port=free_port())
    with pytest.raises(OSError, match="refused"):
        read_progress(settings)

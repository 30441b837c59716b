"""Start, stop, PostgreSQL, and a worker that dies for good."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from services.cli.stack import running_state
from services.cli.stack.local_settings import free_port
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SR, running_stack


def test_stop_is_clean_and_leaves_nothing_running(tmp_path: Path) -> None:
    with running_stack(tmp_path / "stack") as stack:
        state = running_state(stack.settings)
        assert state is not None
        pids = [state.supervisor_pid, *state.pids.values()]
        pids += [child.pid for pid in pids for child in psutil.Process(pid).children(True)]
        begun = time.monotonic()
        stack.stack.stop()
        assert time.monotonic() - begun < stack.settings.grace_period_s
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    for service in ("listener", "orchestrator", "reporting", "gateway"):
        log = (stack.folder / "data" / "logs" / f"{service}.log").read_text(encoding="utf-8")
        assert '"event": "service_stopped"' in log, service


def test_stop_in_the_middle_of_a_job_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    uid = study_uid("stopped")
    write_head(tmp_path / "study", "stopped")
    with running_stack(folder) as stack:
        stack.send(tmp_path / "study")
        stack.wait(uid, lambda s: bool(s["jobs"]), "have a job")
    with running_stack(folder) as again:
        study = again.wait_until_done(uid)
        assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
        assert len(again.in_pacs(uid, SEG)) == len(again.in_pacs(uid, SR)) == 1


@pytest.fixture
def second_worker(tmp_path: Path) -> Generator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_postgresql_and_adoption_of_a_worker_that_dies_for_good(
    tmp_path: Path, postgres_url: str, second_worker: list[subprocess.Popen[bytes]]
) -> None:
    changes = {"heartbeat_interval_s": 0.3, "heartbeat_timeout_s": 2.0}
    folder = tmp_path / "stack"
    uid = study_uid("adopted")
    write_head(tmp_path / "study", "adopted")
    # `axial up` hands the key that it makes to its own worker alone; this one is in the settings.
    triton = {"control_key": "a-key-that-both-workers-read"}
    with running_stack(
        folder, database_url=postgres_url, orchestrator=changes, triton=triton
    ) as stack:
        # A second worker beside the stack's own, with a name and a door of its own.
        with (tmp_path / "worker-2.log").open("wb") as log:
            second_worker.append(
                subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "services.orchestrator",
                        "--config",
                        stack.settings_file,
                    ],
                    env={
                        **{k: v for k, v in os.environ.items() if k != "AXIAL_CRASH_FILE"},
                        "AXIAL_ORCHESTRATOR__EXECUTOR_ID": "worker-2",
                        "AXIAL_ORCHESTRATOR__ADDRESS": f"127.0.0.1:{free_port()}",
                        "AXIAL_ORCHESTRATOR__HEALTH_PORT": str(free_port()),
                    },
                    stderr=log,
                )
            )
        # The first one dies in the middle of its job and is kept from coming back.
        stack.crash_at("orchestrator.infer.done")
        with stack.held_back("orchestrator"):
            stack.send(tmp_path / "study")
            study = stack.wait_until_done(uid)
            assert stack.crashed()
        log = (tmp_path / "worker-2.log").read_text(encoding="utf-8")
        assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
        assert len(stack.in_pacs(uid, SEG)) == len(stack.in_pacs(uid, SR)) == 1
        assert "executors_adopted" in log

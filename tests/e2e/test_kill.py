"""kill -9 of each process at named points between every two steps.

Whatever is killed wherever, the study ends with exactly one SEG and one SR at the PACS.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SR, StackUnderTest

# point at which the process there dies, or at which another process is killed
POINTS: list[tuple[str, str | None]] = [
    ("listener.file.synced", None),
    ("listener.instance.registered", None),
    ("listener.revision.frozen", None),
    ("listener.revision.begun", None),
    ("listener.revision.announced", None),
    ("orchestrator.select.begin", None),
    ("orchestrator.select.done", None),
    ("orchestrator.jobs.enqueued", None),
    ("orchestrator.infer.begin", None),
    ("orchestrator.infer.begin", "triton"),
    ("orchestrator.infer.done", None),
    ("orchestrator.infer.done", "triton"),
    ("orchestrator.infer.recorded", None),
    ("orchestrator.report.begin", None),
    ("orchestrator.report.begin", "reporting"),
    ("orchestrator.report.done", None),
    ("orchestrator.report.recorded", None),
    ("orchestrator.deliver.begin", None),
    ("orchestrator.deliver.begin", "reporting"),
    ("orchestrator.deliver.done", None),
    ("orchestrator.job.ended", None),
    ("reporting.seg.written", None),
    ("reporting.sr.written", None),
    ("reporting.results.registered", None),
    ("reporting.deliveries.enqueued", None),
    ("reporting.send.begin", None),
    ("reporting.send.begin", "stand-in-pacs"),
    ("reporting.send.done", None),
]


@pytest.mark.parametrize(("point", "victim"), POINTS, ids=lambda v: str(v or "itself"))
def test_killed_process_costs_no_result(
    stack: StackUnderTest, tmp_path: Path, point: str, victim: str | None
) -> None:
    name = f"kill {point} {victim}"
    write_head(tmp_path, name)
    stack.crash_at(point, victim)
    stack.send_until_accepted(tmp_path)
    study = stack.wait_until_done(study_uid(name))
    assert stack.crashed(), f"{point} was never passed"
    assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
    assert len(stack.in_pacs(study_uid(name), SEG)) == 1
    assert len(stack.in_pacs(study_uid(name), SR)) == 1


def test_late_series_finds_the_job_that_its_dead_recorder_never_queued(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    name = "kill late"
    write_head(tmp_path / "first", name)
    write_head(tmp_path / "late", name, series="flair", description="T2 FLAIR", number=3)
    # Dead between recording the job and queueing it, and kept dead while a series arrives.
    with stack.held_back("orchestrator"):
        stack.crash_at("orchestrator.select.done")
        stack.send_until_accepted(tmp_path / "first")
        stack.wait_for_crash()
        stack.send_until_accepted(tmp_path / "late")
        stack.wait(study_uid(name), lambda s: s["revision"] == 2, "freeze its second revision")
    study = stack.wait_until_done(study_uid(name), revision=2)
    reasons = sorted(fate["reason"] for fate in study["fate"])
    assert reasons == ["attribute_mismatch", "unchanged"]
    assert len(stack.in_pacs(study_uid(name), SEG)) == 1
    assert len(stack.in_pacs(study_uid(name), SR)) == 1


@pytest.mark.parametrize("point", ["orchestrator.withdraw.begin", "orchestrator.withdraw.done"])
def test_worker_killed_while_superseding_leaves_one_current_result(
    stack: StackUnderTest, tmp_path: Path, point: str
) -> None:
    name = f"kill {point}"
    files = write_head(tmp_path / "all", name)
    early = tmp_path / "early"
    early.mkdir()
    for file in files[:-6]:
        shutil.copy(file, early)
    stack.send_until_accepted(early)
    stack.wait_until_done(study_uid(name))
    stack.crash_at(point)
    stack.send_until_accepted(tmp_path / "all")
    study = stack.wait_until_done(study_uid(name), revision=2)
    assert stack.crashed()
    states = sorted((job["revision"], job["state"]) for job in study["jobs"])
    assert states == [(1, "superseded"), (2, "processed")]
    (new,) = [r for r in stack.in_pacs(study_uid(name), SR) if "PredecessorDocumentsSequence" in r]
    assert len(stack.in_pacs(study_uid(name), SR)) == 2
    assert new.PredecessorDocumentsSequence


def test_killed_gateway_comes_back(stack: StackUnderTest, tmp_path: Path) -> None:
    write_head(tmp_path, "kill gateway")
    stack.send_until_accepted(tmp_path)
    os.kill(stack.pid("gateway"), signal.SIGKILL)
    study = stack.wait_until_done(study_uid("kill gateway"))
    assert [fate["reason"] for fate in study["fate"]] == ["segmented"]


def test_killed_model_costs_no_result(stack: StackUnderTest, tmp_path: Path) -> None:
    """The process inside Triton that holds the networks; Triton itself may break off with it."""
    name = "kill model"
    write_head(tmp_path, name)
    for model in psutil.Process(stack.pid("triton")).children(recursive=True):
        if any("triton_python_backend_stub" in word for word in model.cmdline()):
            model.kill()
    stack.send_until_accepted(tmp_path)
    study = stack.wait_until_done(study_uid(name))
    assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
    assert len(stack.in_pacs(study_uid(name), SEG)) == 1

"""Deployments: which build a study is given to while builds come and go. On both engines."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from models.manifest import Manifest
from services.common.database import DeploymentRow, JobRow
from services.common.fates import Verdict
from services.common.lifecycle import DeploymentState, JobState
from services.orchestrator import jobs
from services.orchestrator.asking_again import jobs_to_retry, revision_to_retry
from services.orchestrator.deployments import (
    Deployment,
    drained,
    given_to,
    needs_registering,
    note_answer,
    note_trouble,
    read_deployments,
    register,
    retire,
)
from services.orchestrator.recording import record_selection
from services.orchestrator.revision import read_revision
from services.orchestrator.selection import select_series
from tests.builders.catalogue import MODEL, served_build
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

OLD, NEW = "a" * 64, "b" * 64
LATER = "2026-02-01T00:00:00+00:00"


def _states(engine: Engine) -> dict[str, str]:
    return {each.digest: each.state.value for each in read_deployments(engine, "cpu")}


def _deployment(engine: Engine, digest: str) -> Deployment:
    (found,) = (each for each in read_deployments(engine, "cpu") if each.digest == digest)
    return found


def _given(engine: Engine, study_uid: str = "1.2") -> str:
    return given_to(study_uid, read_deployments(engine, "cpu"))[MODEL].digest


def _serving(engine: Engine, folder: Path) -> None:
    register(engine, "cpu", [served_build(folder, digest=OLD)])
    note_answer(engine, _deployment(engine, OLD))


def test_a_new_build_is_given_studies_once_it_has_answered(engine: Engine, tmp_path: Path) -> None:
    _serving(engine, tmp_path)
    wanted = [served_build(tmp_path, digest=NEW)]
    assert needs_registering(read_deployments(engine, "cpu"), wanted)
    register(engine, "cpu", wanted)
    assert not needs_registering(read_deployments(engine, "cpu"), wanted)
    assert _states(engine) == {OLD: "serving", NEW: "loading"}
    assert _given(engine) == OLD
    note_answer(engine, _deployment(engine, NEW))
    assert _states(engine) == {OLD: "draining", NEW: "serving"}
    assert _given(engine) == NEW


def test_a_build_that_cannot_be_loaded_changes_nothing_about_the_one_that_serves(
    engine: Engine, tmp_path: Path
) -> None:
    _serving(engine, tmp_path)
    register(engine, "cpu", [served_build(tmp_path, digest=NEW)])
    note_trouble(engine, _deployment(engine, NEW), "It cannot be loaded.", failed=True)
    assert _states(engine) == {OLD: "serving", NEW: "failed"}
    assert _deployment(engine, NEW).problem == "It cannot be loaded."
    assert _given(engine) == OLD
    # Asked for again, it is tried again.
    again = [served_build(tmp_path, digest=NEW, requested_at=LATER)]
    assert needs_registering(read_deployments(engine, "cpu"), again)
    register(engine, "cpu", again)
    assert _states(engine) == {OLD: "serving", NEW: "loading"}


def test_the_only_build_of_a_model_is_given_studies_while_it_is_loaded(
    engine: Engine, tmp_path: Path
) -> None:
    register(engine, "cpu", [served_build(tmp_path, digest=OLD)])
    assert _given(engine) == OLD
    note_trouble(engine, _deployment(engine, OLD), "It cannot be loaded.", failed=True)
    assert _given(engine) == OLD
    note_answer(engine, _deployment(engine, OLD))
    assert _states(engine) == {OLD: "serving"}


def test_the_build_of_before_is_drained_until_its_jobs_have_ended(
    engine: Engine, tmp_path: Path, manifest: Manifest
) -> None:
    _serving(engine, tmp_path)
    study_uid = register_revision(engine, write_head_like(tmp_path))
    revision = read_revision(engine, study_uid, 1)
    selection = select_series(manifest, revision.series)
    ((uid, _),) = record_selection(engine, revision, [(selection, OLD)]).to_run
    register(engine, "cpu", [served_build(tmp_path, digest=NEW)])
    note_answer(engine, _deployment(engine, NEW))
    assert drained(engine, "cpu") == []
    jobs.end_job(engine, uid, Verdict("blank_image", {"low": 0}))
    (old,) = drained(engine, "cpu")
    retire(engine, old)
    assert _states(engine) == {NEW: "serving"}
    # What was retired comes back when it is wanted again.
    register(engine, "cpu", [served_build(tmp_path, digest=OLD, requested_at=LATER)])
    note_answer(engine, _deployment(engine, OLD))
    assert _given(engine) == OLD


def test_a_build_wanted_again_while_it_is_drained_serves_at_once(
    engine: Engine, tmp_path: Path
) -> None:
    _serving(engine, tmp_path)
    register(engine, "cpu", [served_build(tmp_path, digest=NEW)])
    note_answer(engine, _deployment(engine, NEW))
    register(engine, "cpu", [served_build(tmp_path, digest=OLD, requested_at=LATER)])
    assert _states(engine) == {OLD: "serving", NEW: "draining"}


def test_a_model_that_is_wanted_no_more_is_drained_and_one_not_told_of_stays(
    engine: Engine, tmp_path: Path
) -> None:
    _serving(engine, tmp_path)
    register(engine, "cpu", [], untold={MODEL})
    assert not needs_registering(read_deployments(engine, "cpu"), [], {MODEL})
    assert _states(engine) == {OLD: "serving"}
    register(engine, "cpu", [])
    assert _states(engine) == {OLD: "draining"}
    assert given_to("1.2", read_deployments(engine, "cpu")) == {}


def test_builds_that_serve_together_get_their_shares_and_a_study_its_own(
    engine: Engine, tmp_path: Path
) -> None:
    _serving(engine, tmp_path)
    register(engine, "cpu", [served_build(tmp_path, digest=NEW)])
    with engine.begin() as connection:
        connection.execute(update(DeploymentRow).values(state="serving", share=80))
        connection.execute(
            update(DeploymentRow).where(DeploymentRow.model_digest == NEW).values(share=20)
        )
    given = [_given(engine, f"1.2.{number}") for number in range(400)]
    assert given == [_given(engine, f"1.2.{number}") for number in range(400)]
    assert 40 < Counter(given)[NEW] < 120


def test_a_state_of_newer_code_is_left_to_that_code(engine: Engine, tmp_path: Path) -> None:
    _serving(engine, tmp_path)
    with engine.begin() as connection:
        connection.execute(update(DeploymentRow).values(state="shadowing"))
    assert read_deployments(engine, "cpu")[0].state is DeploymentState.DRAINING
    assert drained(engine, "cpu") == []


@pytest.mark.parametrize("served", [OLD, NEW])
def test_a_failed_job_is_run_again_by_its_build_or_judged_anew_by_the_one_that_serves(
    engine: Engine, tmp_path: Path, manifest: Manifest, served: str
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    revision = read_revision(engine, study_uid, 1)
    selection = select_series(manifest, revision.series)
    ((first, attempt),) = record_selection(engine, revision, [(selection, OLD)]).to_run
    jobs.end_job(engine, first, Verdict("inference_failed", {"model": "m", "problem": "p"}))
    if served == OLD:
        assert revision_to_retry(engine, study_uid, {served}) is None
        assert jobs_to_retry(engine, study_uid, {served}) == [(first, attempt + 1)]
        return
    assert jobs_to_retry(engine, study_uid, {served}) == []
    assert revision_to_retry(engine, study_uid, {served}) == 1
    ((second, _),) = record_selection(engine, revision, [(selection, NEW)]).to_run
    assert second != first
    jobs.advance_job(engine, second, JobState.INFERRED)
    jobs.advance_job(engine, second, JobState.REPORTED)
    jobs.end_job(engine, second, Verdict("segmented", {"model": "m", "found": "x"}))
    assert revision_to_retry(engine, study_uid, {served}) is None
    # And a selection that is repeated leaves the job its build, whatever is served now.
    again = record_selection(engine, revision, [(selection, OLD)])
    assert (again.to_run, again.superseded) == ((), ())
    with engine.connect() as connection:
        rows = connection.execute(select(JobRow.job_uid, JobRow.state))
        states = dict(rows.all())
    assert states == {first: "failed", second: "processed"}

"""Jobs and fates: what a revision makes of the ones before it. On SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from models.manifest import Manifest
from services.common.database import (
    FateRow,
    JobRow,
    JobStageRow,
    migrate,
    open_database,
    utc_now,
)
from services.common.fates import Verdict
from services.common.lifecycle import JobState, LifecycleError
from services.orchestrator import jobs, recording
from services.orchestrator.asking_again import jobs_to_retry, revision_to_retry
from services.orchestrator.progress import write_progress
from services.orchestrator.revision import read_revision
from services.orchestrator.selection import select_series
from services.orchestrator.stage_times import StageTime
from tests.builders.head_like import write_head_like
from tests.builders.job_rows import write_result
from tests.builders.revisions import register_revision

DIGEST = "d" * 64
DONE = Verdict("segmented", {"model": "Brain extraction", "found": "Brain 1.0 mL"})


def _select(
    engine: Engine, manifest: Manifest, study_uid: str, number: int, digest: str = DIGEST
) -> recording.RecordedSelection:
    revision = read_revision(engine, study_uid, number)
    selection = select_series(manifest, revision.series)
    return recording.record_selection(engine, revision, [(selection, digest)])


def _finish(engine: Engine, job_uid: str) -> None:
    jobs.advance_job(engine, job_uid, JobState.INFERRED)
    jobs.advance_job(engine, job_uid, JobState.REPORTED)
    jobs.end_job(engine, job_uid, DONE)


def _add_late_series(engine: Engine, folder: Path, files: list[Path]) -> None:
    """Freezes a second revision with a series that no model wants."""
    late = write_head_like(folder, series="other", description="T2 FLAIR")
    register_revision(engine, [*files, *late], number=2)


def _fates(engine: Engine, number: int) -> dict[str, str]:
    with Session(engine) as session:
        rows = session.scalars(select(FateRow).where(FateRow.revision == number)).all()
        return {row.series_uid: row.reason for row in rows}


def _states(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return list(session.scalars(select(JobRow.state).order_by(JobRow.revision)))


def test_selection_twice_makes_one_job(tmp_path: Path, engine: Engine, manifest: Manifest) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    first = _select(engine, manifest, study_uid, 1)
    assert _select(engine, manifest, study_uid, 1) == first
    assert _states(engine) == ["selected"]


def test_late_instances_supersede_the_first_result(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path, slices=30)
    study_uid = register_revision(engine, files[:25])
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    write_result(engine, first, study_uid)
    _finish(engine, first)
    register_revision(engine, files, number=2)
    recorded = _select(engine, manifest, study_uid, 2)
    assert recorded.superseded == (first,)
    ((second, _),) = recorded.to_run
    assert second != first
    assert jobs.read_job(engine, second).supersedes_job_uid == first
    assert set(_fates(engine, 1).values()) == {"newer_revision"}
    _finish(engine, second)
    assert set(_fates(engine, 2).values()) == {"segmented"}


def test_unchanged_inputs_keep_their_result(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path)
    study_uid = register_revision(engine, files)
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    _finish(engine, first)
    _add_late_series(engine, tmp_path, files)
    recorded = _select(engine, manifest, study_uid, 2)
    assert recorded == recording.RecordedSelection((), ())
    assert sorted(_fates(engine, 2).values()) == ["attribute_mismatch", "unchanged"]
    assert _states(engine) == ["processed"]


def test_a_series_whose_pixels_could_not_be_read_is_read_again_by_the_next_revision(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    # A stored file that was damaged is sound once its image was sent again, with the same bytes.
    files = write_head_like(tmp_path)
    study_uid = register_revision(engine, files)
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    damaged = {"instance": "1.2.3", "problem": "its file is cut off"}
    jobs.end_job(engine, first, Verdict("pixels_unreadable", damaged))
    assert _select(engine, manifest, study_uid, 1).to_run == ()
    register_revision(engine, files, number=2)
    ((second, _),) = _select(engine, manifest, study_uid, 2).to_run
    assert second != first
    _finish(engine, second)
    assert set(_fates(engine, 2).values()) == {"segmented"}


def test_job_under_way_is_carried_into_the_next_revision(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path)
    study_uid = register_revision(engine, files)
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    _add_late_series(engine, tmp_path, files)
    # Put on the queue again: its recorder may have died before doing so. Twice starts once.
    assert _select(engine, manifest, study_uid, 2).to_run == ((first, 1),)
    _finish(engine, first)
    assert sorted(_fates(engine, 2).values()) == ["attribute_mismatch", "unchanged"]


def test_another_model_digest_makes_another_job(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path)
    study_uid = register_revision(engine, files)
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    _finish(engine, first)
    _add_late_series(engine, tmp_path, files)
    recorded = _select(engine, manifest, study_uid, 2, digest="e" * 64)
    assert len(recorded.to_run) == 1
    assert recorded.superseded == (first,)


def test_older_revision_runs_nothing_when_a_newer_one_is_frozen(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path, slices=30)
    study_uid = register_revision(engine, files[:25])
    register_revision(engine, files, number=2)
    assert _select(engine, manifest, study_uid, 1).to_run == ()
    assert set(_fates(engine, 1).values()) == {"newer_revision"}
    assert len(_select(engine, manifest, study_uid, 2).to_run) == 1


def test_superseded_job_stays_superseded_whatever_its_steps_do(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path, slices=30)
    study_uid = register_revision(engine, files[:25])
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    register_revision(engine, files, number=2)
    _select(engine, manifest, study_uid, 2)
    assert jobs.advance_job(engine, first, JobState.INFERRED) is JobState.SUPERSEDED
    assert jobs.end_job(engine, first, DONE) is JobState.SUPERSEDED
    assert set(_fates(engine, 1).values()) == {"newer_revision"}


def test_failed_job_can_be_asked_for_again(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    ((uid, attempt),) = _select(engine, manifest, study_uid, 1).to_run
    write_progress(engine, {uid: 0.8})
    jobs.end_job(engine, uid, Verdict("inference_failed", {"model": "m", "problem": "p"}))
    assert set(_fates(engine, 1).values()) == {"inference_failed"}
    assert jobs_to_retry(engine, study_uid, {DIGEST}) == [(uid, attempt + 1)]
    with Session(engine) as session:  # it begins at the beginning
        assert session.get_one(JobRow, uid).progress is None
    # Cut off before the queue had it, the next request finds it again.
    assert jobs_to_retry(engine, study_uid, {DIGEST}) == [(uid, attempt + 1)]
    _finish(engine, uid)
    assert set(_fates(engine, 1).values()) == {"segmented"}


def test_forbidden_change_of_state_is_an_error(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    ((uid, _),) = _select(engine, manifest, study_uid, 1).to_run
    with pytest.raises(LifecycleError):
        jobs.advance_job(engine, uid, JobState.REPORTED)


def test_broken_selection_gives_every_series_a_fate(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    revision = read_revision(engine, study_uid, 1)
    verdict = Verdict("internal_error", {"stage": "select", "problem": "KeyError"})
    recording.record_failure_of_revision(engine, revision, [manifest.identity.name], verdict)
    assert set(_fates(engine, 1).values()) == {"internal_error"}


def test_results_of_a_superseded_job_are_still_the_predecessor(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path, slices=32)
    study_uid = register_revision(engine, files[:24])
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    write_result(engine, first, study_uid)
    _finish(engine, first)
    # Revision 2 is still under way when revision 3 comes: what the receivers hold is of 1.
    register_revision(engine, files[:28], number=2)
    _select(engine, manifest, study_uid, 2)
    register_revision(engine, files, number=3)
    ((third, _),) = _select(engine, manifest, study_uid, 3).to_run
    assert jobs.read_job(engine, third).supersedes_job_uid == first


def test_job_recorded_but_never_queued_is_run_by_the_next_revision(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    files = write_head_like(tmp_path)
    study_uid = register_revision(engine, files)
    ((first, _),) = _select(engine, manifest, study_uid, 1).to_run
    # The worker dies here; meanwhile another series arrives.
    _add_late_series(engine, tmp_path, files)
    assert _select(engine, manifest, study_uid, 1).to_run == ()
    assert _select(engine, manifest, study_uid, 2).to_run == ((first, 1),)


def test_selections_of_one_study_come_one_after_another(
    tmp_path: Path, postgres_url: str, manifest: Manifest
) -> None:
    engine = open_database(postgres_url)
    migrate(engine)
    files = write_head_like(tmp_path, slices=30)
    study_uid = register_revision(engine, files[:25])
    register_revision(engine, files, number=2)
    with Session(engine) as holder, holder.begin():
        jobs.lock_study(holder, study_uid)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(_select, engine, manifest, study_uid, 1)
            second = pool.submit(_select, engine, manifest, study_uid, 2)
            done, waiting = wait([first, second], timeout=0.5)
            assert (len(done), len(waiting)) == (0, 2)
            holder.rollback()
            assert first.result(10).to_run == ()
            assert len(second.result(10).to_run) == 1
    engine.dispose()


def test_revision_whose_selection_failed_can_be_asked_for_again(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    assert revision_to_retry(engine, study_uid, {DIGEST}) is None
    revision = read_revision(engine, study_uid, 1)
    verdict = Verdict("internal_error", {"stage": "select", "problem": "KeyError"})
    recording.record_failure_of_revision(engine, revision, [manifest.identity.name], verdict)
    assert revision_to_retry(engine, study_uid, {DIGEST}) == 1
    ((uid, _),) = _select(engine, manifest, study_uid, 1).to_run
    _finish(engine, uid)
    assert set(_fates(engine, 1).values()) == {"segmented"}
    assert revision_to_retry(engine, study_uid, {DIGEST}) is None


def test_long_name_of_a_network_fits_its_column(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    ((uid, _),) = _select(engine, manifest, study_uid, 1).to_run
    times = [StageTime(f"infer.network:{number}:{'n' * 60}", utc_now(), 1.0) for number in (1, 2)]
    jobs.advance_job(engine, uid, JobState.INFERRED, times=times)
    with Session(engine) as session:
        stages = list(session.scalars(select(JobStageRow.stage)))
    assert [len(stage) for stage in stages] == [64, 64]


def test_open_end_of_a_range_is_stored_as_a_word(
    tmp_path: Path, engine: Engine, manifest: Manifest
) -> None:
    study_uid = register_revision(engine, write_head_like(tmp_path))
    revision = read_revision(engine, study_uid, 1)
    values = {"spacing_mm": 9.0, "model": "m", "minimum_mm": 0.0, "maximum_mm": float("inf")}
    verdict = Verdict("spacing_out_of_range", values)
    recording.record_failure_of_revision(engine, revision, [manifest.identity.name], verdict)
    with Session(engine) as session:
        assert session.scalars(select(FateRow)).one().reason_values["maximum_mm"] == "no limit"


def test_a_job_in_a_state_that_newer_code_invented_is_let_alone(
    engine: Engine, manifest: Manifest, tmp_path: Path
) -> None:
    """Read, asked for again, carried over or superseded: it is the newer code's to go on with."""
    files = write_head_like(tmp_path / "first")
    study_uid = register_revision(engine, files)
    ((job_uid, _),) = _select(engine, manifest, study_uid, 1).to_run
    with Session(engine) as session, session.begin():
        session.get_one(JobRow, job_uid).state = "shadowed"
    assert jobs.read_job(engine, job_uid).state is JobState.SUPERSEDED  # nothing goes on with it
    for state in (JobState.INFERRED, JobState.REPORTED):
        assert jobs.advance_job(engine, job_uid, state) is JobState.SUPERSEDED
    assert jobs.end_job(engine, job_uid, DONE) is JobState.SUPERSEDED
    assert _select(engine, manifest, study_uid, 1).to_run == ()
    _add_late_series(engine, tmp_path / "late", files)
    assert _select(engine, manifest, study_uid, 2).superseded == ()
    other = write_head_like(tmp_path / "other", series="another")
    register_revision(engine, other, number=3)
    assert _select(engine, manifest, study_uid, 3).superseded == ()
    assert job_uid not in dict(jobs_to_retry(engine, study_uid, {DIGEST}))
    with Session(engine) as session:
        assert session.get_one(JobRow, job_uid).state == "shadowed"
        assert session.get_one(JobRow, job_uid).reason is None

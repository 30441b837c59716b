"""Stages select and gate over a catalogue and a store: what one trouble costs, and what not."""

from __future__ import annotations

import builtins
import copy
import errno
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session

from services.common.database import ConflictRow, FateRow, InstanceRow, JobRow, utc_now
from services.common.fates import Verdict
from services.common.headers import InstanceHeader
from services.common.identity import derived_uid
from services.common.lifecycle import JobState
from services.common.store import StoreError, StudyStore
from services.imaging import open_stored_images
from services.orchestrator import jobs, joining, retrying, selection
from services.orchestrator import stage_context as stage_contexts
from services.orchestrator.asking_again import revision_to_retry
from services.orchestrator.examining import ReadySelection, examine_study
from services.orchestrator.recording import RecordedSelection
from services.orchestrator.stages import select_stage
from tests.builders.catalogue import (
    CATALOGUE,
    DIGEST,
    MODEL,
    serve,
    stage_context,
    stop_serving,
)
from tests.builders.enhanced import enhanced_of
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

T1, T2 = derived_uid("test", "study", "t1"), derived_uid("test", "study", "t2")


class Place:
    """A catalogue with one model that is built, a store and a database."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.context = stage_context(engine, folder)
        self.store = self.context.store
        self.build(MODEL)

    def build(self, model: str, digest: str = DIGEST) -> None:
        """Has a model's build served."""
        serve(self.context, model, digest)

    def add_model_with_two_roles(
        self, choose: str = "best", align: dict[str, Any] | None = None
    ) -> None:
        """Serves a model that reads a T1 and a T2 FLAIR of one frame of reference.

        Args:
            choose: whether it reads the best T1, or every one beside the best FLAIR.
            align: how the FLAIR lies to the T1; None: in its frame of reference.
        """
        manifest = yaml.safe_load((CATALOGUE / MODEL / "model.yaml").read_text())
        manifest["identity"]["name"] = "two-roles"
        ((name, role),) = manifest["roles"].items()
        other = copy.deepcopy(role)
        role["choose"] = choose
        named = {"attribute": "SeriesDescription", "words_match": "flair", "why": "test"}
        other["title"], other["selector"] = "T2 FLAIR of the head", [named]
        other |= {"use": "aligned", "align": {"to": name, **(align or {"by": "same-frame"})}}
        manifest["roles"] = {name: role, "other": other}
        folder = self.folder / "catalogue" / "two-roles"
        folder.mkdir()
        (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
        self.build("two-roles", "e" * 64)

    def receive(self, files: Sequence[Path], number: int = 1) -> str:
        """Freezes files as a revision; returns the study's UID."""
        return register_revision(self.engine, list(files), number, store=self.store)

    def select(self, study_uid: str, number: int = 1) -> RecordedSelection:
        """Runs the stage."""
        return select_stage(self.context, study_uid, number)

    def fates(self, number: int, model: str = MODEL) -> dict[str, str]:
        """Series UID -> reason."""
        with Session(self.engine) as session:
            rows = session.scalars(
                select(FateRow).where(FateRow.revision == number, FateRow.model_name == model)
            )
            return {row.series_uid: row.reason for row in rows}

    def states(self) -> list[str]:
        """Of every job, by revision."""
        with Session(self.engine) as session:
            return list(session.scalars(select(JobRow.state).order_by(JobRow.revision)))

    def finish(self, job_uid: str) -> None:
        """Ends a job well."""
        jobs.advance_job(self.engine, job_uid, JobState.INFERRED)
        jobs.advance_job(self.engine, job_uid, JobState.REPORTED)
        jobs.end_job(self.engine, job_uid, Verdict("segmented", {"model": "m", "found": "x"}))


@pytest.fixture
def place(engine: Engine, tmp_path: Path) -> Place:
    return Place(engine, tmp_path)


@pytest.fixture
def with_multiframe(place: Place, tmp_path: Path) -> tuple[list[Path], str]:
    """A classic series and an enhanced object of another; with that one's series UID."""
    good = write_head_like(tmp_path / "good", series="t1")
    enhanced = enhanced_of(write_head_like(tmp_path / "other", series="t2"), tmp_path / "e.dcm")
    return [*good, enhanced], derived_uid("test", "study", "t2")


def test_result_of_an_earlier_revision_stands_while_its_model_is_not_built(
    place: Place, tmp_path: Path
) -> None:
    t1 = write_head_like(tmp_path / "a", series="t1")
    study_uid = place.receive(t1)
    ((first, _),) = place.select(study_uid).to_run
    place.finish(first)
    scout = write_head_like(
        tmp_path / "b", series="scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")
    )
    place.receive([*t1, *scout], 2)
    stop_serving(place.context)
    assert place.select(study_uid, 2) == RecordedSelection((), ())
    assert place.states() == ["processed"]
    assert set(place.fates(2).values()) == {"model_unavailable"}
    place.build(MODEL)
    assert revision_to_retry(place.engine, study_uid, {DIGEST}) == 2
    assert place.select(study_uid, 2) == RecordedSelection((), ())
    assert place.states() == ["processed"]
    assert sorted(place.fates(2).values()) == ["localizer", "unchanged"]


def test_job_under_way_goes_on_while_its_model_is_not_built_and_is_found_again(
    place: Place, tmp_path: Path
) -> None:
    t1 = write_head_like(tmp_path / "a", series="t1")
    study_uid = place.receive(t1)
    to_run = place.select(study_uid).to_run
    other = write_head_like(tmp_path / "b", series="other", description="T2 FLAIR")
    place.receive([*t1, *other], 2)
    stop_serving(place.context)
    assert place.select(study_uid, 2) == RecordedSelection((), ())
    place.build(MODEL)
    assert place.select(study_uid, 2) == RecordedSelection(to_run, ())
    place.finish(to_run[0][0])
    assert sorted(place.fates(2).values()) == ["attribute_mismatch", "unchanged"]


def test_a_model_with_two_roles_gets_one_series_for_each(place: Place, tmp_path: Path) -> None:
    place.add_model_with_two_roles()
    t1 = write_head_like(tmp_path / "a", series="t1")
    study_uid = place.receive(t1)
    assert len(place.select(study_uid).to_run) == 1
    assert place.fates(1, "two-roles") == {T1: "role_without_series"}
    flair = write_head_like(tmp_path / "b", series="t2", description="T2 FLAIR")
    place.receive([*t1, *flair], 2)
    to_run = [uid for uid, _ in place.select(study_uid, 2).to_run]
    (joint,) = (
        job
        for job in (jobs.read_job(place.engine, uid) for uid in to_run)
        if job.model_name == "two-roles"
    )
    assert {role: each.series_uid for role, each in joint.inputs.items()} == {
        "image": T1,
        "other": T2,
    }
    assert joint.grid_role == "image"
    # The end of the job is told for each series that it read.
    place.finish(joint.job_uid)
    assert place.fates(2, "two-roles") == {T1: "segmented", T2: "segmented"}
    # Nothing changed for it in the next revision: both series carry it on.
    scout = write_head_like(
        tmp_path / "c", series="scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")
    )
    place.receive([*t1, *flair, *scout], 3)
    assert joint.job_uid not in place.select(study_uid, 3).superseded
    carried = place.fates(3, "two-roles")
    assert (carried[T1], carried[T2]) == ("unchanged", "unchanged")


@pytest.mark.parametrize(
    ("align", "fates"),
    [
        ({"by": "same-frame"}, {T1: "role_without_series", T2: "role_without_series"}),
        ({"by": "rigid", "refuse_below": 0.2}, {}),
    ],
    ids=lambda given: str(given.get("by", "")),
)
def test_series_of_two_frames_of_reference_go_together_where_they_are_registered(
    place: Place, tmp_path: Path, align: dict[str, Any], fates: dict[str, str]
) -> None:
    place.add_model_with_two_roles(align=align)
    t1 = write_head_like(tmp_path / "a", series="t1")
    flair = write_head_like(tmp_path / "b", series="t2", description="T2 FLAIR", frame="other")
    study_uid = place.receive([*t1, *flair])
    selected = [
        set(job.series_uids())
        for job in (jobs.read_job(place.engine, uid) for uid, _ in place.select(study_uid).to_run)
        if job.model_name == "two-roles"
    ]
    assert selected == ([] if fates else [{T1, T2}])
    assert place.fates(1, "two-roles") == fates


def test_one_series_never_fills_two_roles(place: Place, tmp_path: Path) -> None:
    """It fits both, and the study holds no other: nothing is run, and why is told."""
    place.add_model_with_two_roles()
    both = write_head_like(tmp_path / "a", series="t1", description="T1 after T2 FLAIR")
    study_uid = place.receive(both)
    place.select(study_uid)
    assert place.fates(1, "two-roles") == {T1: "role_without_series"}


def test_object_that_the_disk_does_not_give_costs_its_own_series_only(
    place: Place, with_multiframe: tuple[list[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, unreadable = with_multiframe
    study_uid = place.receive(files)
    with Session(place.engine) as session:
        keys = session.scalars(
            select(InstanceRow.store_key).where(InstanceRow.series_uid == unreadable)
        )
        (broken,) = (str(place.store.path(key)) for key in keys)
    opened = builtins.open

    def refuse(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file) == broken:
            raise OSError(errno.EIO, "Input/output error", broken)
        return opened(file, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", refuse)
        patched.setattr(io, "open", refuse)
        assert len(place.select(study_uid).to_run) == 1
        assert examine_study(place.context, study_uid) == [ReadySelection(MODEL, (T1,), (T2,))]
    assert place.fates(1) == {unreadable: "internal_error"}
    assert revision_to_retry(place.engine, study_uid, {DIGEST}) == 1


def test_store_that_is_away_is_asked_again_and_then_costs_its_own_series_only(
    place: Place, with_multiframe: tuple[list[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, unreadable = with_multiframe
    study_uid = place.receive(files)
    asked: list[str] = []

    def away(headers: Sequence[InstanceHeader], store: StudyStore) -> Any:
        if headers[0].series_uid != unreadable:
            return open_stored_images(headers, store)
        asked.append(unreadable)
        raise StoreError("The store does not answer.", retryable=True)

    monkeypatch.setattr(stage_contexts, "open_stored_images", away)
    monkeypatch.setattr(retrying, "LONGEST_WAIT_S", 0.001)
    assert len(place.select(study_uid).to_run) == 1
    assert place.fates(1) == {unreadable: "internal_error"}
    assert len(asked) > 1
    asked.clear()
    assert examine_study(place.context, study_uid) == [ReadySelection(MODEL, (T1,), (T2,))]
    assert len(asked) == 1


def test_a_series_of_which_several_images_share_a_uid_is_refused_by_name(
    engine: Engine, tmp_path: Path
) -> None:
    place = Place(engine, tmp_path)
    files = write_head_like(tmp_path, series="t1")
    study_uid = register_revision(engine, files, store=place.store)
    doubled(engine, study_uid)
    select_stage(place.context, study_uid, 1)
    with Session(engine) as session:
        fate = session.scalars(select(FateRow)).one()
    assert (fate.fate, fate.reason) == ("refused", "conflicting_images")
    assert fate.reason_values["count"] == 1
    with engine.begin() as connection:
        connection.execute(update(ConflictRow).values(state="kept"))
    register_revision(engine, files, 2, store=place.store)
    assert len(select_stage(place.context, study_uid, 2).to_run) == 1


def doubled(engine: Engine, study_uid: str) -> None:
    """Another image came under the UID of the study's first one."""
    with engine.begin() as connection:
        kept = connection.execute(
            select(InstanceRow.__table__).where(InstanceRow.study_uid == study_uid).limit(1)
        ).one()
        connection.execute(
            insert(ConflictRow).values(
                sop_instance_uid=kept.sop_instance_uid,
                data_digest="0-1",
                transfer_syntax_uid=kept.transfer_syntax_uid,
                study_uid=study_uid,
                series_uid=kept.series_uid,
                sop_class_uid=kept.sop_class_uid,
                kept_study_uid=study_uid,
                kept_series_uid=kept.series_uid,
                differs=["place", "pixels"],
                among_own=True,
                state="open",
                times=1,
                peer="MR1",
                received_at=utc_now(),
                last_received_at=utc_now(),
            )
        )


def test_a_model_that_reads_every_series_of_one_role_has_a_job_for_each(
    place: Place, tmp_path: Path
) -> None:
    place.add_model_with_two_roles("every")
    ones = [
        file
        for name in ("t1", "t1-again")
        for file in write_head_like(tmp_path / name, series=name)
    ]
    flair = write_head_like(tmp_path / "b", series="t2", description="T2 FLAIR")
    study_uid = place.receive([*ones, *flair])
    place.select(study_uid)
    with Session(place.engine) as session:
        of_model = select(JobRow.job_uid).where(JobRow.model_name == "two-roles")
        job_uids = list(session.scalars(of_model))
    read = {uid: dict(jobs.read_job(place.engine, uid).inputs) for uid in job_uids}
    firsts = {inputs["image"].series_uid for inputs in read.values()}
    assert firsts == {T1, derived_uid("test", "study", "t1-again")}
    assert [inputs["other"].series_uid for inputs in read.values()] == [T2, T2]
    assert place.fates(1, "two-roles") == {}
    # The FLAIR is read by both jobs of one model: it has a fate of each.
    ends = [
        Verdict("segmented", {"model": "m", "found": "x"}),
        Verdict("blank_image", {"low": 0}),
    ]
    jobs.advance_job(place.engine, job_uids[0], JobState.INFERRED)
    jobs.advance_job(place.engine, job_uids[0], JobState.REPORTED)
    for uid, verdict in zip(job_uids, ends, strict=True):
        jobs.end_job(place.engine, uid, verdict)
    with Session(place.engine) as session:
        of_flair = select(FateRow).where(
            FateRow.series_uid == T2, FateRow.model_name == "two-roles"
        )
        fates = {row.job_uid: row.reason for row in session.scalars(of_flair)}
    assert fates == {uid: end.reason for uid, end in zip(job_uids, ends, strict=True)}


def test_a_series_beyond_the_bound_of_a_model_that_reads_every_one_is_told_so(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "MAX_ASSIGNMENTS", 2)
    monkeypatch.setattr(selection, "MAX_ASSIGNMENTS", 2)
    manifest = yaml.safe_load((CATALOGUE / MODEL / "model.yaml").read_text())
    manifest["identity"]["name"] = "every-one"
    for role in manifest["roles"].values():
        role["choose"] = "every"
    folder = place.folder / "catalogue" / "every-one"
    folder.mkdir()
    (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
    place.build("every-one", "e" * 64)
    files = [
        file
        for number in range(3)
        for file in write_head_like(tmp_path / f"n{number}", series=f"n{number}")
    ]
    study_uid = place.receive(files)
    place.select(study_uid)
    assert list(place.fates(1, "every-one").values()) == ["too_many_choices"]
    with Session(place.engine) as session:
        (row,) = session.scalars(
            select(FateRow).where(FateRow.model_name == "every-one", FateRow.reason != "")
        )
        sentence = Verdict(row.reason, row.reason_values).sentence
    assert "than the 2 that are worked on" in sentence

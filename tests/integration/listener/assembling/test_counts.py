"""A study is frozen as soon as what was declared of it is there; a wrong count never blocks."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.common.database import utc_now
from services.common.identity import derived_uid
from services.common.settings import RetentionSettings
from services.common.store import StudyStore
from services.listener.assembling.expectations import KEPT, expect_study, read_expectation
from services.listener.keeping.retention import Retention
from tests.builders.assembling import Front, revisions
from tests.builders.head_like import write_head_like
from tests.builders.series import edit, sound_series
from tests.integration.listener.assembling.conftest import MakeFront


@pytest.fixture(params=["scanned", "read by pydicom"])
def charset(request: pytest.FixtureRequest) -> str:
    """A character set that the receivers read themselves, and one that they leave to pydicom."""
    return "ISO_IR 100" if request.param == "scanned" else "\\ISO 2022 IR 87"


def declaring(files: list[Path], **counts: Any) -> list[Path]:
    """Has each file declare counts; those that are tuples differ from file to file."""
    for number, file in enumerate(files):
        edit(file, **{k: v[number] if isinstance(v, tuple) else v for k, v in counts.items()})
    return files


def triggers(engine: Engine) -> list[tuple[str, int]]:
    return [(revision.trigger, revision.instances) for revision in revisions(engine)]


def assert_left_to_the_quiet_period(front: Front, instances: int) -> None:
    """The study is not frozen when it is counted, but when it is quiet."""
    front.count()
    assert triggers(front.engine) == []
    front.clock.advance(5)
    front.look(front.engine)
    assert triggers(front.engine) == [("quiet", instances)]


def test_a_study_whose_instances_declare_their_number_is_frozen_with_the_last(
    make_front: MakeFront, engine: Engine, tmp_path: Path, charset: str
) -> None:
    files = declaring(
        sound_series(tmp_path / "dicom"),
        NumberOfStudyRelatedInstances=7,
        NumberOfSeriesRelatedInstances=7,
        SpecificCharacterSet=charset.split("\\"),
        PatientName="Yamada^Tarou=山田^太郎" if "87" in charset else "Zebra",
    )
    front = make_front(files)
    for number in range(6):
        front.receive(number)
        front.count()
    assert triggers(engine) == []
    front.receive(6)
    front.count()
    assert triggers(engine) == [("counted", 7)]
    assert front.announced == [(front.study_uid, 1)]


def test_series_that_declare_their_number_and_their_instances_make_a_study(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    first = write_head_like(tmp_path, series="t1", slices=6)
    second = write_head_like(tmp_path, series="t2", slices=5)
    declaring(first, NumberOfStudyRelatedSeries=2, NumberOfSeriesRelatedInstances=6)
    declaring(second, NumberOfStudyRelatedSeries=2, NumberOfSeriesRelatedInstances=5)
    front = make_front([*first, *second])
    front.receive(*range(6))
    front.count()
    assert triggers(engine) == []
    front.receive(*range(6, 11))
    front.count()
    assert triggers(engine) == [("counted", 11)]


def test_a_number_that_is_exceeded_leaves_the_study_to_its_quiet_period(
    make_front: MakeFront, tmp_path: Path
) -> None:
    files = declaring(sound_series(tmp_path / "dicom"), NumberOfStudyRelatedInstances=2)
    front = make_front(files)
    front.receive(0, 1, 2)
    assert_left_to_the_quiet_period(front, instances=3)


def test_what_comes_after_the_counted_study_makes_the_next_revision_when_it_is_quiet(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    files = declaring(sound_series(tmp_path / "dicom"), NumberOfStudyRelatedInstances=2)
    front = make_front(files)
    front.receive(0, 1)
    front.count()
    front.receive(2)
    front.count()
    assert triggers(engine) == [("counted", 2)]
    front.clock.advance(5)
    front.look(engine)
    assert triggers(engine) == [("counted", 2), ("quiet", 3)]


def test_of_numbers_that_grow_the_largest_counts(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    # A PACS that sends on what it is still receiving.
    numbers = (2, 2, 2, 4, 4, 4, 4)
    files = declaring(sound_series(tmp_path / "dicom"), NumberOfStudyRelatedInstances=numbers)
    front = make_front(files)
    front.receive(3, 0)
    front.count()
    assert triggers(engine) == []
    front.receive(1, 2)
    front.count()
    assert triggers(engine) == [("counted", 4)]


def test_numbers_that_contradict_each_other_leave_the_study_to_its_quiet_period(
    make_front: MakeFront, tmp_path: Path
) -> None:
    files = declaring(
        sound_series(tmp_path / "dicom"),
        NumberOfStudyRelatedInstances=7,
        NumberOfSeriesRelatedInstances=8,
    )
    front = make_front(files)
    front.receive(*range(7))
    assert_left_to_the_quiet_period(front, instances=7)


def test_what_is_told_before_the_first_instance_holds_and_outdoes_what_they_declare(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    # The archive has seven, three of which it sends.
    files = declaring(sound_series(tmp_path / "dicom"), NumberOfStudyRelatedInstances=7)
    front = make_front(files)
    expect_study(engine, derived_uid("test", "one", "study"), 3, {})
    expect_study(engine, derived_uid("test", "another", "study"), 1, {})
    for number in range(3):
        assert triggers(engine) == []
        front.receive(number)
        front.count()
    assert triggers(engine) == [("counted", 3)]


def test_what_is_told_again_replaces_what_was_told(front: Front, engine: Engine) -> None:
    front.receive(0, 1)
    front.count()
    expect_study(engine, front.study_uid, 5, {"1.2.3": 5})
    front.count()
    assert triggers(engine) == []
    expect_study(engine, front.study_uid, 2, {})
    told = read_expectation(engine, front.study_uid)
    assert told is not None
    assert (told.instances, dict(told.by_series)) == (2, {})
    front.count()
    assert triggers(engine) == [("counted", 2)]


def test_a_number_that_is_none_is_not_asked(
    make_front: MakeFront, engine: Engine, tmp_path: Path
) -> None:
    files = declaring(sound_series(tmp_path / "dicom"), NumberOfStudyRelatedInstances=0)
    front = make_front(files)
    front.receive(0)
    front.count()
    assert read_expectation(engine, front.study_uid) is None


def test_what_was_told_of_a_study_that_never_comes_is_forgotten(
    make_front: MakeFront, engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    front = make_front(sound_series(tmp_path / "dicom"))
    front.receive(0)
    front.count()
    for study_uid in (front.study_uid, "1.2.3"):
        expect_study(engine, study_uid, 7, {})
    told_at = utc_now()
    for since, kept in ((KEPT - dt.timedelta(hours=1), True), (KEPT, False)):
        now = told_at + since
        Retention(engine, store, RetentionSettings(), clock=lambda now=now: now).run()
        assert (read_expectation(engine, "1.2.3") is not None) is kept
    assert read_expectation(engine, front.study_uid) is not None

"""Which models could begin, asked before anything is frozen."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine, delete, update

from services.common.database import InstanceRow, JobRow, RevisionInstanceRow, utc_now
from services.common.identity import derived_uid
from services.orchestrator.examining import ReadySelection, examine_study
from tests.builders.catalogue import MODEL, serve, stage_context
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

T1, TORN, MORE, FLAIR = (
    derived_uid("test", "study", name) for name in ("t1", "torn", "more", "flair")
)


class Asked:
    """A study whose instances are registered and in no revision."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.context = stage_context(engine, folder)
        self.store = self.context.store
        self.catalogue = folder / "catalogue"
        self.revision = 0

    def build(self) -> None:
        """Has the model's build served."""
        serve(self.context)

    def receive(self, files: list[Path]) -> str:
        """Registers files and leaves them unfrozen; returns the study's UID."""
        self.revision += 1
        study_uid = register_revision(self.engine, files, self.revision, store=self.store)
        with self.engine.begin() as connection:
            connection.execute(delete(RevisionInstanceRow))
        return study_uid


@pytest.fixture
def asked(engine: Engine, tmp_path: Path) -> Asked:
    return Asked(engine, tmp_path)


def test_a_model_is_ready_when_its_series_is_whole_whatever_else_there_is(
    asked: Asked, tmp_path: Path
) -> None:
    asked.build()
    torn = write_head_like(tmp_path, series="torn")
    del torn[12]
    study_uid = asked.receive([*write_head_like(tmp_path, series="t1"), *torn])
    # The torn one may be more of the same when the rest of it is there.
    assert examine_study(asked.context, study_uid) == [ReadySelection(MODEL, (T1,), (TORN,))]
    with asked.engine.connect() as connection:
        assert connection.execute(JobRow.__table__.select()).all() == []


def test_a_model_whose_series_does_not_pass_the_gate_is_not_ready(
    asked: Asked, tmp_path: Path
) -> None:
    asked.build()
    files = write_head_like(tmp_path, series="t1")
    late = files.pop(12)
    study_uid = asked.receive(files)
    assert examine_study(asked.context, study_uid) == []
    asked.receive([late])
    assert examine_study(asked.context, study_uid) == [ReadySelection(MODEL, (T1,))]


def test_rivals_are_what_the_model_may_still_choose_instead(asked: Asked, tmp_path: Path) -> None:
    asked.build()
    study_uid = asked.receive(
        [
            *write_head_like(tmp_path, series="t1"),
            *write_head_like(tmp_path, series="more", slices=30)[:21],
            *write_head_like(tmp_path, series="flair", description="T2 FLAIR"),
        ]
    )
    (ready,) = examine_study(asked.context, study_uid)
    assert (ready.series_uids, ready.rivals) == ((T1,), (MORE,))
    assert FLAIR not in ready.rivals


@pytest.mark.parametrize("come", [1, 2, 10, 18])
def test_a_series_of_which_too_few_images_have_come_is_a_rival(
    asked: Asked, tmp_path: Path, come: int
) -> None:
    """The number of images is an attribute that a series has only when all of it is there."""
    model = asked.catalogue / MODEL / "model.yaml"
    text = model.read_text(encoding="utf-8")
    assert "at_least: 1\n" in text
    model.write_text(text.replace("at_least: 1\n", "at_least: 20\n"), encoding="utf-8")
    asked.build()
    study_uid = asked.receive(
        [
            *write_head_like(tmp_path, series="t1"),
            *write_head_like(tmp_path, series="more", slices=30)[:come],
            *write_head_like(tmp_path, series="flair", description="T2 FLAIR")[:come],
        ]
    )
    (ready,) = examine_study(asked.context, study_uid)
    assert (ready.series_uids, ready.rivals) == ((T1,), (MORE,))


def test_removed_images_are_not_there(asked: Asked, tmp_path: Path) -> None:
    asked.build()
    study_uid = asked.receive(write_head_like(tmp_path, series="t1"))
    with asked.engine.begin() as connection:
        connection.execute(update(InstanceRow).values(deleted_at=utc_now()))
    assert examine_study(asked.context, study_uid) == []


def test_a_model_that_is_not_built_is_not_ready(asked: Asked, tmp_path: Path) -> None:
    study_uid = asked.receive(write_head_like(tmp_path, series="t1"))
    assert examine_study(asked.context, study_uid) == []


def test_a_study_that_nobody_knows_has_nothing_to_begin_with(asked: Asked) -> None:
    asked.build()
    assert examine_study(asked.context, "1.2.3") == []

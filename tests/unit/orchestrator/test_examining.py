"""Which models could begin, asked before anything is frozen."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, delete, update

from models.manifest import BuildRecord
from services.common.database import InstanceRow, JobRow, RevisionInstanceRow, utc_now
from services.common.identity import derived_uid
from services.common.settings import Settings, TritonSettings
from services.common.store import StudyStore
from services.orchestrator.examining import ReadySelection, examine_study
from services.orchestrator.stages import StageContext
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision

CATALOGUE = Path(__file__).parents[3] / "models" / "catalogue"
MODEL = "brain-extraction"
T1 = derived_uid("test", "study", "t1")


class Asked:
    """A study whose instances are registered and in no revision."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.store = StudyStore(folder / "store")
        self.catalogue = folder / "catalogue"
        shutil.copytree(CATALOGUE / MODEL, self.catalogue / MODEL)
        self.revision = 0
        self.context = StageContext(
            settings=Settings(
                catalogue_dir=self.catalogue, triton=TritonSettings(repository=folder / "built")
            ),
            engine=engine,
            store=self.store,
            inference=cast(Any, None),
            reporting=cast(Any, None),
        )

    def build(self) -> None:
        """Writes down that the model was built."""
        folder = self.folder / "built" / "cpu" / "repository" / MODEL
        folder.mkdir(parents=True)
        record = BuildRecord.model_validate(
            {
                "schema": "axial.build/v1",
                "model": MODEL,
                "version": "1",
                "digest": "d" * 64,
                "target": "cpu",
                "precision": "f32",
                "build_key": "e" * 64,
                "parity": (),
                "versions": {},
                "built_at": "2026-01-15",
                "seconds": 1.0,
                "files": (),
            }
        )
        (folder / "build-record.json").write_text(record.model_dump_json(by_alias=True))

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
    assert examine_study(asked.context, study_uid) == [ReadySelection(MODEL, (T1,))]
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

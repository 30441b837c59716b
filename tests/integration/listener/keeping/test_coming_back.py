"""A study that failed for a missing file goes on by itself when its files are there again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, update

from services.common.database import FateRow
from services.common.store import StudyStore
from services.listener.keeping.coming_back import studies_that_came_back
from tests.builders.assembling import NOON, Front, revisions
from tests.builders.stored_studies import decided_revision
from tests.integration.listener.conftest import Receiving


@pytest.fixture
def failed(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> Front:
    """A study of which a file is missing, and whose newest revision failed for it."""
    front = Front(engine, store, tmp_path, receiving)
    front.receive(*range(7))
    front.look(engine)
    front.clock.advance(5)
    decided_revision(engine, front.study_uid, NOON)
    with engine.begin() as connection:
        connection.execute(
            update(FateRow).values(
                fate="failed", reason="source_missing", reason_values={"instance": "3"}
            )
        )
    folder = next((store.root / "studies").glob("*/*"))
    shutil.copytree(folder, tmp_path / "backup")
    (folder / f"{front.offers[3].sop_instance_uid}.dcm").unlink()
    return front


def test_when_it_is_sent_again(failed: Front) -> None:
    failed.receive(3)
    failed.look(failed.engine)
    assert len(revisions(failed.engine)) == 1  # more of it may come
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert [row.instances for row in revisions(failed.engine)] == [7, 7]
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert len(revisions(failed.engine)) == 2


def test_when_somebody_brings_its_files_back(
    failed: Front, store: StudyStore, tmp_path: Path
) -> None:
    now = failed.clock()
    assert studies_that_came_back(failed.engine, store, now) == []
    shutil.copytree(
        tmp_path / "backup", next((store.root / "studies").glob("*/*")), dirs_exist_ok=True
    )
    assert studies_that_came_back(failed.engine, store, now) == [failed.study_uid]
    assert studies_that_came_back(failed.engine, store, now) == []  # it waits for its revision
    failed.clock.advance(5)
    failed.look(failed.engine)
    assert [row.instances for row in revisions(failed.engine)] == [7, 7]

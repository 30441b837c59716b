"""The latest bytes take the place of the first in a real S3, too, with nothing lost on the way."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from services.common.database import ConflictRow, InstanceRow, open_database
from services.common.store import StudyStore
from tests.builders.listener_process import ListenerProcess
from tests.builders.peers import wait_until
from tests.builders.reception import offer
from tests.builders.s3_server import S3Server
from tests.builders.series import edit, sound_series
from tests.integration.conftest import open_s3


def _rows(engine: Engine, table: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(table.__table__)).all())


def _all_taken(engine: Engine, instances: int) -> bool:
    states = Counter(row.state for row in _rows(engine, ConflictRow))
    there = all(row.spooled_by is None for row in _rows(engine, InstanceRow))
    return there and states == {"taken": instances, "replaced": instances}


def test_the_latest_take_the_places_of_the_first_which_are_kept_beside(
    s3_server: S3Server, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    first = {one.sop_instance_uid: one.data for one in map(offer, files)}
    listener = ListenerProcess(
        tmp_path / "listener",
        listener={"conflicts": "take_latest", "quiet_period_s": 600.0},
        store=s3_server.settings("latest"),
    )
    engine = open_database(listener.settings.resolved_database_url)
    store: StudyStore = open_s3(s3_server, tmp_path / "cache", "latest")
    with listener.running():
        assert listener.send(tmp_path / "dicom").failed == ()
        for file in files:
            edit(file, PatientName="Right^Name")
        latest = {one.sop_instance_uid: one.data for one in map(offer, files)}
        assert listener.send(tmp_path / "dicom").failed == ()
        wait_until(lambda: _all_taken(engine, len(files)), 60, "all are taken")
    for row in _rows(engine, InstanceRow):
        assert store.read(row.store_key).endswith(latest[row.sop_instance_uid])
    for row in _rows(engine, ConflictRow):
        if row.state == "replaced":
            assert store.read(row.store_key).endswith(first[row.sop_instance_uid])
    assert len(list(store.list(""))) == 2 * len(files)  # nothing is there twice

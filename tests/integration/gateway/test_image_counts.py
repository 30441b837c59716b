"""How many images a revision has, counted by the database. On both engines."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import InstanceRow, migrate, open_database
from services.gateway.image_counts import images_beyond_instances
from tests.builders.head_like import write_head_like
from tests.builders.revisions import register_revision


def test_frames_count_one_by_one_and_objects_without_pixels_not_at_all(
    database_url: str, tmp_path: Path
) -> None:
    engine = open_database(database_url)
    migrate(engine)
    study_uid = register_revision(engine, write_head_like(tmp_path, slices=5))
    with Session(engine) as session, session.begin():
        raw, many, old, *_ = session.scalars(select(InstanceRow)).all()
        raw.header = {**raw.header, "has_pixels": False}
        frames = {**many.header["attributes"], "NumberOfFrames": "7"}
        many.header = {**many.header, "attributes": frames}
        # Of before it was kept whether there are pixels.
        old.header = {key: value for key, value in old.header.items() if key != "has_pixels"}
    with Session(engine) as session:
        counts = images_beyond_instances(session, study_uid, 1)
    assert list(counts.values()) == [6 - 1]
    engine.dispose()

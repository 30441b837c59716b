"""Studies that failed because a file was missing are worked on anew when their files are there.

Images that are sent again tell of themselves (`placing`). Files that somebody brings back, from a
backup or with a disk, tell nobody: here is looked for them, now and then, while a study waits.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine, select

from services.common.database import FateRow, InstanceRow, StudyRow
from services.common.fates import Fate
from services.common.store import StudyStore, parent_of
from services.listener.registering.conflicts import touch_study

_REASON = "source_missing"


def studies_that_came_back(engine: Engine, store: StudyStore, now: dt.datetime) -> list[str]:
    """Studies of whose newest revision a series failed for a missing file, and whose files are all
    there; their next revision is to be frozen.

    Cost: a listing of each such series; there should be none.

    Raises:
        StoreError, SQLAlchemyError: to be asked again.
    """
    with engine.execution_options(axial_readonly=True).connect() as connection:
        waiting = connection.execute(
            select(StudyRow.study_uid)
            .join(FateRow, FateRow.study_uid == StudyRow.study_uid)
            .where(
                FateRow.fate == Fate.FAILED,  # there is an index of fates
                FateRow.reason == _REASON,
                FateRow.revision == StudyRow.newest_revision,
                StudyRow.unfrozen_instances == 0,
            )
            .distinct()
        ).scalars()
        studies = list(waiting)
    back = [study_uid for study_uid in studies if _is_whole(engine, store, study_uid)]
    for study_uid in back:
        with engine.begin() as connection:
            touch_study(connection, study_uid, now, changed=True)
    return back


def _is_whole(engine: Engine, store: StudyStore, study_uid: str) -> bool:
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(
            select(InstanceRow.store_key, InstanceRow.size_bytes).where(
                InstanceRow.study_uid == study_uid,
                InstanceRow.deleted_at.is_(None),
                InstanceRow.spooled_by.is_(None),
            )
        ).all()
    folders = dict.fromkeys(parent_of(key) for key, _ in rows)
    there = {entry.key: entry.size_bytes for folder in folders for entry in store.list(folder)}
    return bool(rows) and all(there.get(key) == size for key, size in rows)

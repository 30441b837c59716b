"""After a crash: files without a row are registered, half-written ones removed (any room's).

A file is synced before its row is written, and the sender hears of success after both. A file
without a row was therefore never acknowledged; taking it in is right all the same, because the
sender may have sent all there is and given up.

Cost: one listing of the store's folders and one query per study.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select

from services.common.database import InstanceRow, utc_now
from services.common.headers import HeaderError
from services.common.identity import hashed
from services.common.store import StoreError, StudyStore, instance_key
from services.common.telemetry import get_logger
from services.listener.part10 import read_stored
from services.listener.registry import Outcome, ReceivedInstance, register_instance

_log = get_logger("listener")

# What the store's rooms write into; a kill during a write leaves a part there.
_WRITTEN_TO = ("studies", "conflicts", "jobs")
# Another process may be writing into the same volume while this one starts. One object is written
# in seconds; a part that nobody has touched for this long is nobody's.
_ABANDONED_AFTER = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found at the start."""

    registered: int
    quarantined: int
    removed: int


def recover(
    engine: Engine, store: StudyStore, clock: Callable[[], dt.datetime] = utc_now
) -> Recovered:
    """Brings store and database together. To be called before anything is received.

    Args:
        clock: the present in UTC, by which half-written files are old enough to be removed; a
            younger one is left to the next start.
    """
    studies = store.root / "studies"
    removed = _remove_abandoned(store.root, clock() - _ABANDONED_AFTER)
    registered = quarantined = 0
    for study in sorted(_folders(studies)):
        known = _known_keys(engine, study.name)
        for file in sorted(study.glob("*/*.dcm")):
            key = file.relative_to(store.root).as_posix()
            if key in known:
                continue
            problem = _register(engine, key, file)
            if problem is None:
                registered += 1
            else:
                _quarantine(store, file, problem)
                quarantined += 1
    found = Recovered(registered, quarantined, removed)
    if registered or quarantined or removed:
        _log.warning(
            "store_recovered", registered=registered, quarantined=quarantined, removed=removed
        )
    return found


def _folders(parent: Path) -> list[Path]:
    return [entry for entry in parent.iterdir() if entry.is_dir()] if parent.is_dir() else []


def _remove_abandoned(root: Path, before: dt.datetime) -> int:
    removed = 0
    for file in [part for folder in _WRITTEN_TO for part in (root / folder).rglob(".*.part")]:
        with contextlib.suppress(FileNotFoundError):  # its writer has just finished it
            if file.stat().st_mtime <= before.timestamp():
                file.unlink()
                removed += 1
    return removed


def _known_keys(engine: Engine, study_uid: str) -> set[str]:
    with engine.execution_options(axial_readonly=True).connect() as connection:
        keys = select(InstanceRow.store_key).where(InstanceRow.study_uid == study_uid)
        return set(connection.execute(keys).scalars())


def _register(engine: Engine, key: str, file: Path) -> str | None:
    # Returns the problem; None when it is registered.
    try:
        content = file.read_bytes()
        stored = read_stored(content)
        header = stored.registration.header
        own_key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
    except (HeaderError, StoreError, OSError) as error:
        return type(error).__name__
    if own_key != key:
        return "The file lies under another instance's key."
    received = ReceivedInstance(
        registration=stored.registration,
        store_key=key,
        size_bytes=len(content),
        data_digest=stored.data_digest,
        received_at=dt.datetime.fromtimestamp(file.stat().st_mtime, dt.UTC),
        peer=stored.peer,
    )
    if register_instance(engine, received) is not Outcome.STORED:
        return "The instance is registered under another key."
    return None


def _quarantine(store: StudyStore, file: Path, problem: str) -> None:
    target = store.root / "quarantine" / file.relative_to(store.root / "studies")
    target.parent.mkdir(parents=True, exist_ok=True)
    file.rename(target)
    _log.error("file_quarantined", file_hash=hashed(file.stem), problem=problem)

"""At the start, and after a receiver died: what lies in the spool is registered or put aside.

Whatever was acknowledged is in the spool, whole, until it is registered and in the study store. A
file that is whole is offered to the registrar, which knows whether it was registered already; one
that is torn was never acknowledged and goes into quarantine with the reason; one that nothing was
written to yet is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.common.store import ObjectMissing, StudyStore
from services.common.telemetry import get_logger
from services.listener.door.part10 import TornFileError, is_whole, read_sealed
from services.listener.door.ready_files import SUFFIX
from services.listener.door.spool import SpooledFile
from services.listener.registering.arrivals import Offered
from services.listener.registering.quarantine import TORN, Quarantine
from services.listener.registering.registry import mark_in_store

_log = get_logger("listener")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found in a spool."""

    offered: int = 0
    quarantined: int = 0


def recover_spool(
    folder: Path, quarantine: Quarantine, offer: Callable[[Offered], None]
) -> Recovered:
    """Goes through the files of a spool folder (and the folders in it) that nobody writes to.

    Cost: every file is read once. In a folder store files leave the spool within a second, so that
    there are few.

    Raises:
        OSError: the disk refused.
    """
    offered = quarantined = 0
    for file in sorted(folder.rglob(f"*{SUFFIX}")):
        try:
            found = file.stat()
            if found.st_size == 0:
                file.unlink()
                continue
            sealed = read_sealed(file)
        except FileNotFoundError:
            continue  # it has just been registered
        except TornFileError as error:
            try:
                quarantine.put(file, TORN, str(error))
                quarantined += 1
            except OSError as refused:  # the next start tries again
                _log.error("file_not_put_aside", problem=type(refused).__name__)
            continue
        offer(
            Offered(
                file=SpooledFile(
                    path=str(file),
                    meta=sealed.meta,
                    data_bytes=sealed.data_bytes,
                    data_digest=sealed.data_digest,
                    received_at=found.st_mtime,
                ),
                registration=None,
                peer=sealed.meta.peer,
            )
        )
        offered += 1
    if offered or quarantined:
        _log.warning("spool_recovered", offered=offered, quarantined=quarantined)
    return Recovered(offered, quarantined)


def mark_what_reached_the_store(engine: Engine, store: StudyStore, listener_id: str) -> int:
    """Marks instances that reached a store in a folder without their rows saying so.

    The process died between the two. To be called before anything is received.

    Returns:
        How many.
    """
    with engine.execution_options(axial_readonly=True).connect() as connection:
        rows = connection.execute(
            select(
                InstanceRow.sop_instance_uid, InstanceRow.store_key, InstanceRow.data_digest
            ).where(InstanceRow.spooled_by == listener_id)
        ).all()
    there = [uid for uid, key, digest in rows if _is_there(store, key, digest)]
    if there:
        mark_in_store(engine, there)
        _log.warning("rows_settled", instances=len(there))
    return len(there)


def _is_there(store: StudyStore, key: str, data_digest: str) -> bool:
    """Whether the store has the very data set that was registered, whole."""
    try:
        with store.local([key]) as found:
            return is_whole(found[key], data_digest)
    except ObjectMissing:
        return False

"""No answer is lost and none waits, however busy the machine is."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from sqlalchemy import Engine, func, select

from services.common.database import InstanceRow, open_database
from services.common.store import open_store
from services.dimse.files import find_instances, look_at
from services.listener.door.part10 import META_BYTES
from tests.builders.listener_process import ListenerProcess
from tests.builders.many_senders import busy_processes, forgetting_storescp, longest_wait
from tests.builders.peers import wait_until
from tests.builders.senders import needs_dcmtk
from tests.builders.senders_at_once import copy_uid, send_at_once
from tests.builders.series import small_volume, sound_series

# `make soak` sends 200 times.
ASSOCIATIONS = int(os.environ.get("SEND_ASSOCIATIONS", "40"))
INSTANCES = 176


@needs_dcmtk
def test_no_answer_waits_for_a_second_beside_busy_processes(tmp_path: Path) -> None:
    sound_series(tmp_path / "dicom", small_volume((INSTANCES, 64, 64)))
    instances = find_instances(tmp_path / "dicom")
    assert len(instances) == INSTANCES
    with forgetting_storescp() as port, busy_processes(2):
        assert longest_wait(port, instances, ASSOCIATIONS) < 1.0


def test_many_associations_at_once_lose_nothing_and_none_waits_for_a_second(
    tmp_path: Path,
) -> None:
    """Both sides are ours: 40 associations here, 200 with 176 instances each in `make soak`."""
    each = INSTANCES if ASSOCIATIONS > 40 else 40
    file, *_ = sorted(sound_series(tmp_path / "dicom", small_volume((3, 64, 64))))
    settings = {"max_associations": ASSOCIATIONS, "receivers": 2, "quiet_period_s": 600.0}
    listener = ListenerProcess(tmp_path / "listener", listener=settings)
    engine = open_database(listener.settings.resolved_database_url)
    with listener.running(), busy_processes(2):
        sent = send_at_once(listener.settings.listener.port, file, ASSOCIATIONS, each)
        wait_until(
            lambda: _in_store(engine) == ASSOCIATIONS * each, 120, "all of it is in the store"
        )
    assert (sent.stored, sent.problems) == (ASSOCIATIONS * each, ())
    assert sent.longest_s < 1.0
    # The data sets themselves, by their hashes: rows say what should be there.
    instance = look_at(file)
    with instance.open() as opened:
        data = opened.read()
    own = instance.sop_instance_uid.encode()
    wanted = {
        _digest(data.replace(own, copy_uid(instance, association, number).encode()))
        for association in range(ASSOCIATIONS)
        for number in range(each)
    }
    store = open_store(listener.settings)
    kept = [_digest(store.read(entry.key)[META_BYTES:]) for entry in store.list("studies")]
    assert len(wanted) == len(kept) == ASSOCIATIONS * each
    assert set(kept) == wanted


def _in_store(engine: Engine) -> int:
    with engine.connect() as connection:
        there = select(func.count()).where(InstanceRow.spooled_by.is_(None))
        return connection.execute(there).scalar_one()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

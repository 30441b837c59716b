"""No answer is lost and none waits, however busy the machine is."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Engine, func, select

from services.common.database import InstanceRow, open_database
from services.dimse.files import find_instances, look_at
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
    instance = look_at(file)
    assert _uids(engine) == {
        copy_uid(instance, association, number)
        for association in range(ASSOCIATIONS)
        for number in range(each)
    }


def _in_store(engine: Engine) -> int:
    with engine.connect() as connection:
        there = select(func.count()).where(InstanceRow.spooled_by.is_(None))
        return connection.execute(there).scalar_one()


def _uids(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(InstanceRow.sop_instance_uid)).scalars())

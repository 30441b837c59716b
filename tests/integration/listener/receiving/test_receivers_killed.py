"""Receivers are killed while associations send: every acknowledged image is a file afterwards.

Files are counted by the hash of their pixels, not rows. RECEIVER_KILLS says how many rounds there
are; `make soak` has 200.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import Engine, select

from services.common.database import InstanceRow, open_database
from services.common.store import open_store
from tests.builders.by_pixels import Instances, Senders
from tests.builders.listener_process import ListenerProcess
from tests.builders.s3_server import S3Server

ROUNDS = int(os.environ.get("RECEIVER_KILLS", "8"))
ASSOCIATIONS, EACH = 6, 20
WITHIN_S = 60.0


class Front(ListenerProcess):
    """A listener whose receivers are killed.

    Args:
        store: the settings' group; a folder without it.
    """

    def __init__(self, folder: Path, store: dict[str, Any] | None = None) -> None:
        groups = {} if store is None else {"store": {**store, "timeout_s": 5}}
        super().__init__(folder, listener={"quiet_period_s": 3600, "receivers": 2}, **groups)

    def engine(self) -> Engine:
        return open_database(self.settings.resolved_database_url)


def one_round(front: Front, main: int, instances: Instances, chance: random.Random) -> list[Any]:
    """Associations send, and receivers are killed in their middle; what was acknowledged."""
    wait_until(lambda: front.readiness()["ready"], front)
    with Senders(front.settings.listener.port, instances, ASSOCIATIONS, EACH) as senders:
        senders.wait_for_first()
        for _ in range(2):
            time.sleep(chance.uniform(0.0, 0.15))
            receivers = [child for child in psutil.Process(main).children() if _receives(child)]
            if receivers:
                chance.choice(receivers).kill()
    return senders.acknowledged


@pytest.mark.parametrize("place", ["folder", "s3"])
def test_every_acknowledged_image_is_a_file(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    instances = Instances(tmp_path / "dicom")
    server: S3Server | None = request.getfixturevalue("s3_server") if place == "s3" else None
    front = Front(
        tmp_path / "front", None if server is None else server.settings(f"killed-{os.getpid()}")
    )
    chance = random.Random(os.environ.get("SEED", "receivers"))
    acknowledged: dict[str, str] = {}
    with front.running() as main:
        for number in range(ROUNDS):
            sent = one_round(front, main.pid, instances, chance)
            round_s = {one.sop_instance_uid: one.pixels for one in sent}
            assert_all_kept(front, instances, round_s, f"round {number}")
            acknowledged |= round_s
    assert_all_kept(front, instances, acknowledged, "at the end")
    assert len(acknowledged) >= ROUNDS


def assert_all_kept(
    front: Front, instances: Instances, acknowledged: dict[str, str], when: str
) -> None:
    """All of it is registered and in the store, as the rows say."""
    engine, store = front.engine(), open_store(front.settings)
    try:
        wait_until(lambda: acknowledged.keys() <= _in_store(engine).keys(), front)
        keys = _in_store(engine)
        there = {entry.key for entry in store.list("studies")}
        nowhere = [uid for uid, key in keys.items() if key not in there]
        assert not nowhere, f"{when}: {len(nowhere)} rows say 'in store' without an object"
        lost = [
            uid
            for uid, pixels in acknowledged.items()
            if instances.hash_of(store.read(keys[uid])) != pixels
        ]
        assert not lost, f"{when}: {len(lost)} of {len(acknowledged)} images are no file"
    finally:
        engine.dispose()


def _in_store(engine: Engine) -> dict[str, str]:
    """The keys of what is in the store, as the rows say, by UID."""
    rows = select(InstanceRow.sop_instance_uid, InstanceRow.store_key).where(
        InstanceRow.spooled_by.is_(None)
    )
    with engine.connect() as connection:
        return {uid: key for uid, key in connection.execute(rows)}  # noqa: C416 - rows are no pairs


def _receives(process: psutil.Process) -> bool:
    try:
        return "services.listener.door" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False


def wait_until(condition: Callable[[], bool], front: Front) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, front.log()[-3000:]
        time.sleep(0.02)

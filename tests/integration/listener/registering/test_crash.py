"""Killed at any point, the listener loses nothing it acknowledged and takes up what it left."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pydicom
import pytest
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine, select, update

from services.common.database import InstanceRow, RevisionRow, open_database
from services.common.store import StudyStore
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import Spool
from services.listener.door.statuses import StoreStatus
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.recovery import mark_what_reached_the_store, recover_spool
from tests.builders.listener_process import ListenerProcess
from tests.builders.network import free_port
from tests.builders.orchestrator_peer import orchestrator_peer
from tests.builders.raw_sender import RawSender
from tests.builders.reception import LISTENER_ID, OfferedInstance, offer, registered
from tests.builders.series import PATIENT_ID, PATIENT_NAME, edit, sound_series
from tests.integration.listener.conftest import Receiving


class Process(ListenerProcess):
    """A listener that can be told where to die."""

    def __init__(self, folder: Path, orchestrator: str, quiet_period_s: float) -> None:
        super().__init__(
            folder,
            listener={"quiet_period_s": quiet_period_s},
            orchestrator={"address": orchestrator},
            telemetry={"traces": "file"},
        )
        self.crash_file = folder / "crash"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "AXIAL_CRASH_FILE": str(self.crash_file)}

    def send_some(self, files: list[Path]) -> int:
        """Sends until the listener stops answering; returns how many were acknowledged."""
        acknowledged = 0
        with RawSender(self.settings.listener.port) as sender:
            sender.associate(MRImageStorage)
            # A library of two threads may take our answer for something else (pynetdicom's does
            # when its reactor is held up for as long as we need to answer).
            with suppress(ConnectionError):
                for file in files:
                    acknowledged += sender.store(file) == StoreStatus.SUCCESS
                sender.release()
        return acknowledged

    def engine(self) -> Engine:
        return open_database(f"sqlite:///{self.folder / 'data' / 'axial.sqlite'}")


def test_a_receiver_killed_before_its_answer_leaves_what_is_on_disk_to_the_listener(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=0.5)
        listener.crash_file.write_text("listener.file.synced")
        with listener.running():
            assert listener.send_some(files) == 0
            # Never acknowledged, but on disk: registered.
            wait_until(lambda: len(registered(listener.engine())) == 1)
            assert listener.send_some(files) == len(files)
            peer.wait_for(1)
            wait_until(lambda: sum_of_newest(listener.engine()) == len(files))


def test_killed_while_registering_it_registers_all_it_acknowledged_after_the_start(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=0.5)
        listener.crash_file.write_text("listener.instance.registered")
        with listener.running() as process:
            acknowledged = listener.send_some(files)
            process.wait(20)
        with listener.running():
            wait_until(lambda: len(registered(listener.engine())) >= max(acknowledged, 1))
            assert listener.send_some(files) == len(files)
            peer.wait_for(1)
            wait_until(lambda: sum_of_newest(listener.engine()) == len(files))
    assert len(registered(listener.engine())) == len(files)


@pytest.mark.parametrize(
    "point",
    ["listener.revision.frozen", "listener.revision.begun", "listener.revision.announced"],
)
def test_killed_while_freezing_the_revision_is_announced_after_the_start(
    point: str, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=1.5)
        listener.crash_file.write_text(point)
        with listener.running() as process:
            assert listener.send_some(files) == len(files)
            process.wait(20)
        with listener.running():
            announced = peer.wait_for(1)
            wait_until_all_announced(listener.engine())
    assert set(announced) == {(pydicom.dcmread(files[0]).StudyInstanceUID, 1)}
    assert sum_of_newest(listener.engine()) == len(files)


def test_killed_in_the_quiet_period_the_study_is_frozen_after_the_start(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=2.0)
        with listener.running() as process:
            assert listener.send_some(files) == len(files)
            process.kill()
        with listener.running():
            assert len(peer.wait_for(1)) == 1
    assert sum_of_newest(listener.engine()) == len(files)


def test_sigterm_ends_it_soon_with_success_and_telemetry_without_patient_data(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=0.2)
        with listener.running() as process:
            assert listener.send_some(files) == len(files)
            peer.wait_for(1)
            begun = time.monotonic()
            process.terminate()
            assert process.wait(20) == 0
            assert time.monotonic() - begun < 10
    traces = (tmp_path / "data" / "traces" / "listener.jsonl").read_text()
    log = (tmp_path / "log").read_text()
    assert "listener.receive" in traces
    assert "revision_frozen" in log
    for secret in (PATIENT_NAME, PATIENT_NAME.split("^")[0], PATIENT_ID):
        assert secret not in log + traces
    assert str(pydicom.dcmread(files[0]).StudyInstanceUID) not in log + traces


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_no_line_of_the_log_holds_a_uid(tmp_path: Path) -> None:
    # Leading zeros: many systems write them, and pydicom warns of each.
    files = [
        edit(file, StudyInstanceUID="1.2.0840.4711", SeriesInstanceUID="1.2.0840.4712")
        for file in sound_series(tmp_path / "dicom")
    ]
    uids = {"1.2.0840.4711", "1.2.0840.4712"} | {
        str(pydicom.dcmread(f).SOPInstanceUID) for f in files
    }
    listener = Process(tmp_path, f"127.0.0.1:{free_port()}", quiet_period_s=0.2)
    leftover = tmp_path / "data" / "spool" / "listener" / "door-0" / "1-1.dcm"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"cut off")
    log = tmp_path / "log"
    with listener.running() as process:
        assert listener.send_some(files) == len(files)
        for file in files:
            edit(file, InstanceNumber=77)
        assert listener.send_some(files) == len(files)
        edit(files[0], SeriesInstanceUID=None)
        edit(files[1], StudyInstanceUID="1.2.0840.4711/")
        assert listener.send_some(files[:2]) == 0
        deadline = time.monotonic() + 20
        while "revision_not_announced" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.terminate()
        assert process.wait(20) == 0
    said = log.read_text()
    for event in ("instance_conflicting", "instance_refused", "file_quarantined"):
        assert event in said
    assert [uid for uid in uids if uid in said] == []


def spooled(folder: Path, offered: OfferedInstance) -> Path:
    """An instance in a spool that nobody was told of."""
    spool = Spool(folder)
    writer = spool.begin()
    writer.write(offered.data)
    uids = (offered.sop_class_uid, offered.sop_instance_uid, offered.transfer_syntax_uid)
    file = writer.commit(FileMeta(*uids, offered.peer))
    spool.close()
    return Path(file.path)


def test_recovery_registers_what_is_whole_and_puts_aside_what_is_torn(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    offers = [offer(file, peer="MR9") for file in sound_series(tmp_path / "dicom")]
    reception = receiving(lite_engine, store)
    assert reception.receive(offers[0]) == 0
    spool, quarantine = tmp_path / "left", tmp_path / "quarantine"
    known, unknown = (spooled(spool / "door-1", one) for one in offers[:2])
    torn, changed, empty = (spooled(spool / "door-1", one) for one in offers[2:5])
    with torn.open("r+b") as file:
        file.truncate(torn.stat().st_size - 7)
    with changed.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-2, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    empty.write_bytes(b"")

    found = recover_spool(spool, Quarantine(quarantine), reception.registrar.offer)
    assert (found.offered, found.quarantined) == (2, 2)
    assert reception.registrar.flush(20)
    assert registered(lite_engine) == {one.sop_instance_uid for one in offers[:2]}
    with lite_engine.connect() as connection:
        peers = set(connection.execute(select(InstanceRow.peer)).scalars())
    assert peers == {"MR9"}
    assert sorted(path.name for path in quarantine.glob("*.dcm")) == sorted(
        (torn.name, changed.name)
    )
    reasons = [json.loads(path.read_text())["reason"] for path in quarantine.glob("*.json")]
    assert reasons == ["torn_file", "torn_file"]
    assert not list(spool.rglob("*.dcm"))
    nothing = recover_spool(spool, Quarantine(quarantine), reception.registrar.offer)
    assert (nothing.offered, nothing.quarantined) == (0, 0)
    assert not known.exists()
    assert not unknown.exists()


def test_rows_of_files_that_reached_the_store_unnoticed_are_corrected(
    lite_engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    reception = receiving(lite_engine, store)
    first, second = (offer(file) for file in sound_series(tmp_path / "dicom")[:2])
    assert reception.receive(first) == reception.receive(second) == 0
    with lite_engine.begin() as connection:
        connection.execute(update(InstanceRow).values(spooled_by=LISTENER_ID))
        key = connection.execute(
            select(InstanceRow.store_key).where(
                InstanceRow.sop_instance_uid == second.sop_instance_uid
            )
        ).scalar_one()
    store.path(key).unlink()
    assert mark_what_reached_the_store(lite_engine, store, "another") == 0
    assert mark_what_reached_the_store(lite_engine, store, LISTENER_ID) == 1
    with lite_engine.connect() as connection:
        waiting = connection.execute(
            select(InstanceRow.sop_instance_uid).where(InstanceRow.spooled_by == LISTENER_ID)
        ).scalars()
        assert list(waiting) == [second.sop_instance_uid]


def test_a_receiver_that_dies_is_replaced_and_what_it_acknowledged_is_registered(
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    listener = Process(tmp_path, f"127.0.0.1:{free_port()}", quiet_period_s=3600)
    with listener.running() as process:
        assert listener.send_some(files[:3]) == 3
        (receiver,) = psutil.Process(process.pid).children()
        receiver.kill()
        deadline = time.monotonic() + 20
        while not (found := psutil.Process(process.pid).children()) or found[0] == receiver:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert listener.send_some(files[3:]) == len(files) - 3
        process.terminate()
        assert process.wait(20) == 0
    assert len(registered(listener.engine())) == len(files)
    assert "receiver_died" in (tmp_path / "log").read_text()


def test_receivers_end_when_the_main_process_is_killed(tmp_path: Path) -> None:
    listener = Process(tmp_path, f"127.0.0.1:{free_port()}", quiet_period_s=3600)
    with listener.running() as process:
        receivers = psutil.Process(process.pid).children()
        process.kill()
        process.wait(10)
        assert psutil.wait_procs(receivers, timeout=10)[1] == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sum_of_newest(engine: Engine) -> int:
    with engine.connect() as connection:
        newest = select(RevisionRow.instances).order_by(RevisionRow.number.desc()).limit(1)
        return connection.execute(newest).scalar() or 0


def wait_until_all_announced(engine: Engine) -> None:
    deadline = time.monotonic() + 20
    while True:
        with engine.connect() as connection:
            states = set(connection.execute(select(RevisionRow.state)).scalars())
        if states == {"announced"}:
            return
        assert time.monotonic() < deadline, states
        time.sleep(0.02)

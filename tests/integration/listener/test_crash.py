"""Killed at any point, the listener loses nothing it acknowledged and takes up what it left."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml
from pydicom.uid import MRImageStorage
from pynetdicom import AE, build_context
from sqlalchemy import Engine, select

from services.common.database import InstanceRow, RevisionRow, open_database
from services.common.store import StudyStore
from services.listener.part10 import file_meta
from services.listener.reception import Reception
from services.listener.recovery import recover
from tests.builders.network import free_port
from tests.builders.orchestrator_peer import orchestrator_peer
from tests.builders.series import PATIENT_ID, PATIENT_NAME, edit, sound_series
from tests.integration.listener.test_reception import offer

CHECKOUT = Path(__file__).resolve().parents[3]


class Process:
    """A listener in a process of its own, started again on the same data as often as wanted."""

    def __init__(self, folder: Path, orchestrator: str, quiet_period_s: float) -> None:
        self.folder = folder
        self.port, self._health = free_port(), free_port()
        self.crash_file = folder / "crash"
        settings: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "listener": {
                "port": self.port,
                "health_port": self._health,
                "intake_address": "127.0.0.1:0",
                "accept_unknown_peers": True,
                "quiet_period_s": quiet_period_s,
            },
            "orchestrator": {"address": orchestrator},
            "telemetry": {"traces": "file"},
        }
        (folder / "axial.yaml").write_text(yaml.safe_dump(settings))

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes]]:
        environment = {
            **os.environ,
            "AXIAL_CONFIG": str(self.folder / "axial.yaml"),
            "AXIAL_CRASH_FILE": str(self.crash_file),
        }
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.listener"],
                cwd=CHECKOUT,
                env=environment,
                stderr=log,
            )
            try:
                self._wait_ready(process)
                yield process
            finally:
                process.kill()
                process.wait(10)

    def send(self, files: list[Path]) -> int:
        """Sends until the listener stops answering; returns how many were acknowledged."""
        association = AE(ae_title="MR1").associate(
            "127.0.0.1", self.port, ae_title="AXIAL", contexts=[build_context(MRImageStorage)]
        )
        assert association.is_established
        acknowledged = 0
        for file in files:
            if not association.is_established:
                break
            status = association.send_c_store(pydicom.dcmread(file))
            if "Status" not in status:
                break
            acknowledged += status.Status == 0x0000
        if association.is_established:
            association.release()
        return acknowledged

    def engine(self) -> Engine:
        return open_database(f"sqlite:///{self.folder / 'data' / 'axial.sqlite'}")

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=5):
                    return
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)


def registered(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(select(InstanceRow.sop_instance_uid)).scalars())


@pytest.mark.parametrize(
    ("point", "acknowledged"),
    [("listener.file.synced", 0), ("listener.instance.registered", 0)],
)
def test_killed_while_receiving_it_takes_up_what_is_on_disk(
    point: str, acknowledged: int, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with orchestrator_peer() as (peer, address):
        listener = Process(tmp_path, address, quiet_period_s=0.5)
        listener.crash_file.write_text(point)
        with listener.running() as process:
            assert listener.send(files) == acknowledged
            process.wait(20)
        with listener.running():
            # Never acknowledged, but on disk: registered at the start.
            assert len(registered(listener.engine())) == 1
            assert listener.send(files) == len(files)
            peer.wait_for(1)
            deadline = time.monotonic() + 20
            while sum_of_newest(listener.engine()) < len(files):
                assert time.monotonic() < deadline
                time.sleep(0.02)
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
        listener = Process(tmp_path, address, quiet_period_s=0.3)
        listener.crash_file.write_text(point)
        with listener.running() as process:
            assert listener.send(files) == len(files)
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
            assert listener.send(files) == len(files)
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
            assert listener.send(files) == len(files)
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
    leftover = tmp_path / "data" / "store" / "studies/1.2.0840.4711/1.2.0840.4712/2.25.9.dcm"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"cut off")
    log = tmp_path / "log"
    with listener.running() as process:
        assert listener.send(files) == len(files)
        for file in files:
            edit(file, InstanceNumber=77)
        assert listener.send(files) == len(files)
        edit(files[0], SeriesInstanceUID=None)
        edit(files[1], StudyInstanceUID="1.2.0840.4711/")
        assert listener.send(files[:2]) == 0
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


def test_recovery_registers_and_quarantines(
    lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    offers = [offer(file) for file in sound_series(tmp_path / "dicom")]
    reception = Reception(lite_engine, store, lambda _: None)
    assert reception.receive(offers[0]) == 0
    (known,) = registered(lite_engine)
    with lite_engine.connect() as connection:
        key = connection.execute(select(InstanceRow.store_key)).scalar_one()
    folder = store.path(key).parent
    orphan = offers[1]
    meta = file_meta(
        orphan.sop_class_uid, orphan.sop_instance_uid, orphan.transfer_syntax_uid, "MR9"
    )
    (folder / f"{orphan.sop_instance_uid}.dcm").write_bytes(meta + orphan.data)
    (folder / "2.25.7.dcm").write_bytes(b"cut off")
    (folder / "2.25.8.dcm").write_bytes(meta + orphan.data)  # under another one's name

    found = recover(lite_engine, store)
    assert (found.registered, found.quarantined, found.removed) == (1, 2, 0)
    assert registered(lite_engine) == {known, orphan.sop_instance_uid}
    with lite_engine.connect() as connection:
        row = connection.execute(
            select(InstanceRow.__table__).where(
                InstanceRow.sop_instance_uid == orphan.sop_instance_uid
            )
        ).one()
    assert row.peer == "MR9"
    assert reception.receive(orphan) == 0  # known by its digest: nothing changes
    quarantined = sorted(p.name for p in (store.root / "quarantine").rglob("*.dcm"))
    assert quarantined == ["2.25.7.dcm", "2.25.8.dcm"]
    nothing = recover(lite_engine, store)
    assert (nothing.registered, nothing.quarantined, nothing.removed) == (0, 0, 0)


@pytest.mark.parametrize("folder", ["studies/2.25.1/2.25.2", "jobs/2.25.3", "conflicts/2.25.4"])
def test_recovery_removes_what_was_left_half_written_and_nothing_under_way(
    folder: str, lite_engine: Engine, store: StudyStore
) -> None:
    now = dt.datetime(2024, 1, 31, 12, tzinfo=dt.UTC)
    left, under_way = (store.root / folder / f".object.{n}.part" for n in (1, 2))
    finished = store.root / folder / "labels.npz"
    for file, age_s in ((left, 601), (under_way, 599), (finished, 1e6)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
        os.utime(file, (now.timestamp() - age_s, now.timestamp() - age_s))

    assert recover(lite_engine, store, lambda: now).removed == 1
    assert (left.exists(), under_way.exists(), finished.exists()) == (False, True, True)
    later = now + dt.timedelta(minutes=10)
    assert recover(lite_engine, store, lambda: later).removed == 1
    assert (under_way.exists(), finished.exists()) == (False, True)


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

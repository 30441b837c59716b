"""A receiver that dies is replaced, whatever is in the way; nothing it acknowledged is left out."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine

from services.listener import service as service_module
from services.listener.receiving import receivers as receivers_module
from services.listener.service import Listener
from tests.builders.peers import wait_until
from tests.builders.raw_sender import RawSender, receiver_processes
from tests.builders.reception import registered
from tests.builders.running_listener import wait_until_registered
from tests.builders.series import sound_series
from tests.fuzz.dicom_door import CT
from tests.integration.listener.conftest import OpenListener


def _wait_until(condition: Callable[[], bool]) -> None:
    wait_until(condition, 20, "the receiver's end or its successor")


def _kill_receiver() -> None:
    (receiver,) = receiver_processes()
    receiver.kill()
    _wait_until(lambda: receiver.pid not in {process.pid for process in receiver_processes()})


def _is_served(listener: Listener) -> bool:
    return listener.problems() == [] and len(receiver_processes()) == 1


def _open_associations() -> float:
    return REGISTRY.get_sample_value("axial_associations_open") or 0.0


def test_though_the_system_gives_no_process_at_first(
    open_front_door: OpenListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = subprocess.Popen, iter(range(100))

    def scarce(*given: Any, **named: Any) -> Any:
        if next(calls) < 2:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*given, **named)

    with open_front_door() as listener:
        monkeypatch.setattr(receivers_module.subprocess, "Popen", scarce)
        _kill_receiver()
        _wait_until(lambda: _is_served(listener))
        with RawSender(listener.port).associate() as sender:
            sender.release()


def test_though_its_spool_cannot_be_recovered_at_first(
    open_front_door: OpenListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = service_module.recover_spool, iter(range(100))

    def reluctant(*given: Any, **named: Any) -> Any:
        if (call := next(calls)) in (1, 2):  # the first is at the listener's start
            raise OSError(errno.EIO, "Input/output error")
        return real(*given, **named) if call else None

    monkeypatch.setattr(service_module, "recover_spool", reluctant)
    with open_front_door() as listener:
        _kill_receiver()
        _wait_until(lambda: _is_served(listener))
        assert next(calls) == 4


def test_though_a_torn_file_cannot_be_put_aside(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "quarantine"
    with open_front_door() as listener:
        (tmp_path / "spool").mkdir(exist_ok=True)
        torn = next((tmp_path / "spool").rglob("door-0")) / "0-torn.dcm"
        torn.write_bytes(b"torn")
        in_the_way.write_text("in the way")
        _kill_receiver()
        _wait_until(lambda: _is_served(listener))
        assert torn.exists()
        in_the_way.unlink()
    with open_front_door():
        assert [file.name for file in in_the_way.iterdir() if file.suffix == ".dcm"] == [torn.name]


def test_and_who_asks_whether_all_is_registered_waits_for_its_spool(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door() as listener:
        for number, file in enumerate(files[:3], 1):
            with RawSender(listener.port).associate(MRImageStorage) as sender:
                assert sender.store(file) == 0
                (receiver,) = receiver_processes()
                receiver.kill()
            assert wait_until_registered(listener, 20)
            assert len(registered(lite_engine)) == number
            _wait_until(lambda: _is_served(listener))


def test_and_its_associations_are_no_longer_counted(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        with RawSender(listener.port).associate():
            _wait_until(lambda: _open_associations() == 1)
            _kill_receiver()
        _wait_until(lambda: _is_served(listener))
        assert _open_associations() == 0
        with RawSender(listener.port).associate() as sender:
            sender.release()
        _wait_until(lambda: _open_associations() == 0)


def test_a_context_of_one_class_carries_no_instance_of_another(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    file = sound_series(tmp_path / "dicom")[0]  # an MR image
    with open_front_door() as listener:
        with RawSender(listener.port).associate(CT) as sender:
            assert sender.store(file) == 0x0122
        assert wait_until_registered(listener, 20)
    assert len(registered(lite_engine)) == 0

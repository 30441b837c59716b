"""An acknowledged image whose file is found nowhere is said, with its study, until it is back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydicom.uid import MRImageStorage
from sqlalchemy import Engine, select, update

from services.common.database import InstanceRow, utc_now
from services.common.store import StudyStore
from services.listener.keeping.shipping import Shipping
from services.listener.registering import registrar as registrar_module
from services.listener.registering.lost import LostImages
from services.listener.registering.registry import (
    Novelty,
    ReceivedInstance,
    register_instances,
)
from tests.builders.raw_sender import RawSender
from tests.builders.reception import offer
from tests.builders.running_listener import ship_waiting, wait_until_registered
from tests.builders.series import sound_series
from tests.builders.stored_studies import LISTENER, received, spooled
from tests.integration.listener.conftest import OpenListener, Receiving


def _study_uid(engine: Engine) -> str:
    with engine.connect() as connection:
        return connection.execute(select(InstanceRow.study_uid).distinct()).scalar_one()


def test_a_file_that_vanished_before_it_came_into_the_store(
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
    receiving: Receiving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = LostImages()
    reception = receiving(lite_engine, store, lost=lost)
    first = offer(sound_series(tmp_path / "dicom")[0])

    def register(engine: Engine, batch: Sequence[ReceivedInstance], by: str) -> list[Novelty]:
        for file in reception.spool.folder.iterdir():
            if file.stat().st_size:
                file.unlink()
        return register_instances(engine, batch, by)

    with monkeypatch.context() as patch:
        patch.setattr(registrar_module, "register_instances", register)
        reception.receive(first)
    remark = lost.remark()
    assert remark is not None
    assert remark.startswith("1 acknowledged image(s)")
    assert _study_uid(lite_engine) in remark
    reception.receive(first)
    assert lost.remark() is None


def test_a_file_that_vanished_while_the_listener_was_down(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")

    def send() -> None:
        with RawSender(listener.port).associate(MRImageStorage) as sender:
            assert [sender.store(file) for file in files] == [0] * len(files)
            sender.release()
        assert wait_until_registered(listener, 20)

    with open_front_door(listener_id=LISTENER) as listener:
        send()
        assert listener.remarks() == []
    with lite_engine.begin() as connection:  # as a crash leaves it, and a disk that lost a file
        connection.execute(update(InstanceRow).values(spooled_by=LISTENER))
    next((store.root / "studies").rglob("*.dcm")).unlink()
    with open_front_door(listener_id=LISTENER) as listener:
        (remark,) = listener.remarks()
        assert _study_uid(lite_engine) in remark
        assert listener.problems() == []  # else nobody could send it again
        send()
        assert listener.remarks() == []


def test_a_file_that_vanished_on_its_way_to_s3(
    lite_engine: Engine, s3_store: StudyStore, tmp_path: Path
) -> None:
    content = b"pixels " * 1000
    one = received("1.2.3", 1, utc_now(), content=content)
    register_instances(lite_engine, [one], LISTENER)
    lost = LostImages()
    shipping = Shipping(lite_engine, tmp_path / "outbox", s3_store, LISTENER, _ignore, lost)
    ship_waiting(shipping)
    assert lost.remark() is None  # it may be on its way from the spool
    ship_waiting(shipping)
    assert "1.2.3" in (lost.remark() or "")
    uid = one.registration.header.sop_instance_uid
    shipping.add([(uid, one.store_key, spooled(tmp_path / "spool", "again", content))])
    ship_waiting(shipping)
    assert lost.remark() is None


def _ignore(_study_uid: str) -> None:
    """Nobody waits for the study."""

"""One instance that cannot be read keeps nobody waiting, and none is put aside without need."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from sqlalchemy import Engine, select
from sqlalchemy.exc import DataError, OperationalError

from services.common.database import InstanceRow, utc_now
from services.common.headers import HeaderError
from services.common.store import StudyStore
from services.listener.door import spool as spool_module
from services.listener.door.statuses import StoreStatus
from services.listener.keeping.shipping import Shipping
from services.listener.registering import placing as placing_module
from services.listener.registering import registrar as registrar_module
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.registrar import Registrar
from tests.builders.malformed import malformed_values
from tests.builders.peers import wait_until
from tests.builders.reception import OfferedInstance, Reception, offer, registered
from tests.builders.series import edit, sound_series
from tests.integration.listener.conftest import Receiving

# The receivers read the first themselves, and leave the second to pydicom.
CHARACTER_SETS = ["ISO_IR 100", "ISO 2022 IR 87"]


def put_aside(folder: Path) -> int:
    return len(list(folder.rglob("quarantine/*.json")))


def with_raw(file: Path, keyword: str, vr: str, value: bytes) -> OfferedInstance:
    """A file with an element that no library would write, as it is sent."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    content = pydicom.dcmread(file)
    content._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    content.save_as(file)
    sent = file.read_bytes()
    known = pydicom.dcmread(file, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    syntax = str(known.file_meta.TransferSyntaxUID)
    start = 144 + int.from_bytes(sent[140:144], "little")
    return OfferedInstance(
        str(known.SOPClassUID), str(known.SOPInstanceUID), syntax, "MR1", sent[start:]
    )


def for_the_library(file: Path) -> Path:
    edit(file, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
    return file


def failing(
    real: Callable[..., Any], error: Exception, *, first: bool = True
) -> Callable[..., Any]:
    """Fails at its first call, before it does its work or after it."""
    calls = iter(range(1000))

    def called(*given: Any, **named: Any) -> Any:
        failed = next(calls) == 0
        if failed and first:
            raise error
        done = real(*given, **named)
        if failed:
            raise error
        return done

    return called


@malformed_values
@pytest.mark.parametrize("charset", CHARACTER_SETS)
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("SliceThickness", "DS", b"5mm "),
        ("InstanceNumber", "IS", b"12a "),
        ("PatientSex", "ZZ", b"O "),
        ("NumberOfStudyRelatedInstances", "IS", b"9" * 5000),
    ],
)
def test_a_value_that_is_none_of_its_kind_is_kept_as_it_was_sent(
    keyword: str,
    vr: str,
    value: bytes,
    charset: str,
    lite_engine: Engine,
    tmp_path: Path,
    lite_reception: Reception,
) -> None:
    file, other = sound_series(tmp_path / "dicom")[:2]
    edit(file, SpecificCharacterSet=charset)
    assert dictionary_VR(tag_for_keyword(keyword) or 0)
    assert lite_reception.receive(with_raw(file, keyword, vr, value)) is StoreStatus.SUCCESS
    assert lite_reception.receive(offer(other)) is StoreStatus.SUCCESS
    assert len(registered(lite_engine)) == 2
    assert put_aside(tmp_path) == 0


def test_a_moment_without_descriptors_puts_nothing_aside(
    lite_engine: Engine,
    tmp_path: Path,
    lite_reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = offer(for_the_library(sound_series(tmp_path / "dicom")[0]))
    scarce = failing(registrar_module._read, OSError(errno.EMFILE, "Too many open files"))  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(registrar_module, "_read", scarce)
    assert lite_reception.receive(offered) is StoreStatus.SUCCESS
    assert (len(registered(lite_engine)), put_aside(tmp_path)) == (1, 0)


def test_what_cannot_be_put_aside_yet_is_put_aside_when_the_disk_has_room(
    lite_engine: Engine,
    tmp_path: Path,
    lite_reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = sound_series(tmp_path / "dicom")[:2]
    monkeypatch.setattr(registrar_module, "_read", failing(lambda _: None, HeaderError("none")))
    full = failing(Quarantine.put, OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(Quarantine, "put", full)
    assert lite_reception.receive(offer(for_the_library(first)), wait=False) is StoreStatus.SUCCESS
    monkeypatch.setattr(registrar_module, "_read", failing(lambda _: None, HeaderError("none")))
    assert lite_reception.receive(offer(second)) is StoreStatus.SUCCESS
    assert (len(registered(lite_engine)), put_aside(tmp_path)) == (1, 1)


def test_what_lies_in_quarantine_is_told_with_its_study_until_it_is_removed(
    lite_engine: Engine,
    tmp_path: Path,
    lite_reception: Reception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, torn = sound_series(tmp_path / "dicom")[:3]
    study_uid = str(pydicom.dcmread(first).StudyInstanceUID)
    (folder,) = [front / "quarantine" for front in tmp_path.glob("front-*")]
    quarantine = Quarantine(folder)
    assert quarantine.remark() is None
    quarantine.put(torn, "torn_file", "It was never acknowledged.")
    assert quarantine.remark() is None
    with monkeypatch.context() as patch:  # a head that cannot be read
        patch.setattr(registrar_module, "_read", failing(lambda _: None, HeaderError("none")))
        lite_reception.receive(offer(for_the_library(first)))
    remark = quarantine.remark()
    assert remark is not None
    assert remark.startswith("1 acknowledged object(s) could not be registered")
    with monkeypatch.context() as patch:  # a value that the database refuses
        refused = DataError("INSERT", {}, Exception("out of range"))
        patch.setattr(registrar_module, "register_instances", _always(refused))
        lite_reception.receive(offer(second))
    remark = quarantine.remark()
    assert remark is not None
    assert remark.startswith(f"2 acknowledged object(s), of study {study_uid} could not")
    for file in folder.iterdir():
        file.unlink()
    assert quarantine.remark() is None


def _always(error: Exception) -> Callable[..., Any]:
    def called(*_given: Any) -> Any:
        raise error

    return called


def test_what_a_lost_commit_registered_is_told_of(
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
    receiving: Receiving,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = OperationalError("COMMIT", {}, Exception("the connection was closed"))
    committed = failing(registrar_module.register_instances, lost, first=False)
    monkeypatch.setattr(registrar_module, "register_instances", committed)
    told: list[str] = []
    reception = receiving(lite_engine, store, told.append)
    files = sound_series(tmp_path / "dicom")
    for file in files:
        reception.receive(offer(file), wait=False)
    assert reception.registrar.flush(20)
    assert len(told) == len(registered(lite_engine)) == len(files)


class _Away(StudyStore):
    """A store that does not answer until it may."""

    answers = threading.Event()

    def size(self, key: str) -> int | None:
        assert self.answers.wait(30)
        return super().size(key)

    def local(self, keys: Sequence[str]) -> AbstractContextManager[Mapping[str, Path]]:
        assert self.answers.wait(30)
        return super().local(keys)


@pytest.fixture
def away(tmp_path: Path) -> Generator[_Away]:
    store = _Away(tmp_path / "away")
    store.answers = threading.Event()
    yield store
    store.answers.set()


@pytest.fixture
def shipped(lite_engine: Engine, away: _Away, tmp_path: Path) -> Generator[Reception]:
    """A reception whose instances go to a store elsewhere, by an outbox that nobody empties."""
    shipping = Shipping(lite_engine, tmp_path / "outbox", away, "tested", lambda _: None)
    registrar = Registrar(
        lite_engine,
        away,
        Quarantine(tmp_path / "quarantine"),
        "tested",
        lambda _: None,
        shipping.add,
        tmp_path / "outbox",
        quiet_period_s=lambda _: 5.0,
    )
    spool = spool_module.Spool(tmp_path / "spool" / "door-0")
    with registrar:
        yield Reception(registrar, spool, utc_now, 0)
    spool.close()


def test_a_store_that_is_away_keeps_only_what_came_again_waiting(
    shipped: Reception, away: _Away, lite_engine: Engine, tmp_path: Path
) -> None:
    again, new = (offer(file) for file in sound_series(tmp_path / "dicom")[:2])
    shipped.receive(again)
    _say_that_all_is_there(lite_engine, away, tmp_path / "outbox")
    shipped.receive(again)
    shipped.receive(new)
    assert len(registered(lite_engine)) == 2
    (waiting,) = (file for file in shipped.spool.folder.iterdir() if file.stat().st_size)
    away.answers.set()
    wait_until(lambda: not waiting.exists(), 20, "the end of comparing")


def test_other_bytes_with_the_same_checksum_never_replace_what_waits_to_be_shipped(
    shipped: Reception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "crc32", lambda _data, _value=0: 7)
    first = offer(sound_series(tmp_path / "dicom")[0])
    other = OfferedInstance(
        first.sop_class_uid,
        first.sop_instance_uid,
        first.transfer_syntax_uid,
        "MR1",
        first.data[:-1] + bytes([first.data[-1] ^ 1]),
    )
    for offered in (first, other, first):
        assert shipped.receive(offered) is StoreStatus.SUCCESS
    outbox = tmp_path / "outbox"
    # Files are compared beside everything else.
    wait_until(lambda: len(list(outbox.rglob("*.dcm"))) == 2, 20, "nothing is kept beside it")
    kept = {file.relative_to(outbox).parts[0]: file.read_bytes() for file in outbox.rglob("*.dcm")}
    assert kept.keys() == {"studies", "conflicts"}
    assert kept["studies"].endswith(first.data)
    assert kept["conflicts"].endswith(other.data)


def _say_that_all_is_there(engine: Engine, store: StudyStore, outbox: Path) -> None:
    for file in outbox.rglob("*.dcm"):
        store.put_file(str(file.relative_to(outbox)), file)
    with engine.connect() as connection:
        uids = connection.execute(select(InstanceRow.sop_instance_uid)).scalars().all()
    placing_module.mark_in_store(engine, uids)


def test_a_file_that_was_offered_twice_is_put_aside_once(tmp_path: Path) -> None:
    file = tmp_path / "spool" / "one.dcm"
    file.parent.mkdir()
    file.write_bytes(b"torn")
    quarantine = Quarantine(tmp_path / "quarantine")
    for _ in range(2):
        quarantine.put(file, "torn_file", "It is torn.")
    assert [found.name for found in sorted((tmp_path / "quarantine").iterdir())] == [
        "one.dcm",
        "one.dcm.json",
    ]


def test_an_object_with_a_head_of_megabytes_is_registered(
    lite_engine: Engine, tmp_path: Path, lite_reception: Reception
) -> None:
    file = sound_series(tmp_path / "dicom")[0]
    content = pydicom.dcmread(file)
    del content.PixelData
    content.add_new("EncapsulatedDocument", "OB", bytes(9 << 20))
    content.MIMETypeOfEncapsulatedDocument = "model/stl"
    content.save_as(file)
    assert lite_reception.receive(offer(file)) is StoreStatus.SUCCESS
    assert len(registered(lite_engine)) == 1

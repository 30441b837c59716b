"""Real senders at the DICOM door: who is let in, what is stored, how a door is shut."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pydicom
import pytest
from prometheus_client import REGISTRY
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, MRImageStorage, RLELossless
from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.common.settings import Peer
from services.common.store import StudyStore
from services.dimse.errors import Rejected
from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.pdu import A_ABORT
from services.dimse.sending import send_instances
from services.listener.errors import ListenerError
from services.listener.service import Listener
from tests.builders.front_door import associate
from tests.builders.peers import wait_until
from tests.builders.raw_sender import RawSender
from tests.builders.senders import DCMSEND, STORESCU, needs_dcmtk
from tests.builders.series import edit, small_volume, sound_series
from tests.integration.listener.conftest import OpenListener

# Debian's, not pynetdicom's tool of the same name in the virtual environment.
ECHOSCU = Path("/usr/bin/echoscu")


def instances(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(select(InstanceRow.__table__)).all())


def rejections(reason: str) -> float:
    labels = {"reason": reason}
    return REGISTRY.get_sample_value("axial_associations_rejected_total", labels) or 0.0


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=False
    )


@needs_dcmtk
@pytest.mark.parametrize("sender", [STORESCU, DCMSEND], ids=["storescu", "dcmsend"])
def test_dcmtk_sends_a_series(
    sender: Path,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door() as listener:
        done = run(sender, "-aec", "AXIAL", "-aet", "DCMTK", "127.0.0.1", listener.port, *files)
    assert done.returncode == 0, done.stderr
    found = {row.sop_instance_uid: row for row in instances(lite_engine)}
    for file in files:
        sent = pydicom.dcmread(file)
        row = found.pop(str(sent.SOPInstanceUID))
        assert row.peer == "DCMTK"
        assert pydicom.dcmread(store.path(row.store_key)) == sent
    assert not found


@needs_dcmtk
def test_dcmtk_gets_an_echo(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        done = run(ECHOSCU, "-aec", "AXIAL", "127.0.0.1", listener.port)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless], ids=lambda uid: uid.keyword
)
def test_compressed_instances_are_stored_as_sent(
    syntax: str,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
    small_head: list[Path],
) -> None:
    data = pydicom.dcmread(small_head[0])
    data.compress(syntax, generate_instance_uid=False)
    data.save_as(small_head[0])
    with (
        open_front_door() as listener,
        associate(listener, contexts=[(MRImageStorage, [syntax])]) as association,
    ):
        assert association.store(small_head[0]) == 0x0000
    (row,) = instances(lite_engine)
    assert row.transfer_syntax_uid == syntax
    assert pydicom.dcmread(store.path(row.store_key)).PixelData == data.PixelData


@pytest.fixture
def small_head(tmp_path: Path) -> list[Path]:
    """Images large enough for wavelets."""
    return sound_series(tmp_path / "dicom", small_volume((2, 70, 64)))


def test_statuses_reach_the_sender(open_front_door: OpenListener, tmp_path: Path) -> None:
    broken = edit(sound_series(tmp_path / "dicom")[0], SeriesInstanceUID=None)
    with open_front_door() as listener, associate(listener) as association:
        assert association.store(broken) == 0xC000
        assert association.echo() == 0x0000


def test_the_comment_on_missing_uids_has_room_for_all_of_them(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    """A published series had none of the four, and the last was cut off."""
    (file, *_) = sound_series(tmp_path / "dicom")
    keywords = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
    data = pydicom.dcmread(file)
    for keyword in keywords:
        setattr(data, keyword, "")
    pydicom.dcmwrite(file, data)  # its head has them
    with open_front_door() as listener:
        call = Call("127.0.0.1", listener.port, "AXIAL", "MR1")
        ((_, said),) = send_instances(find_instances(file), call).failed
    assert "No valid UID of SOP class, SOP instance, study, series." in said


@pytest.mark.parametrize(
    ("called", "calling", "reason", "code"),
    [
        ("AXIAL", "STRANGER", "calling_ae_title_not_recognised", (1, 1, 3)),
        ("ELSEWHERE", "MR1", "called_ae_title_not_recognised", (1, 1, 7)),
        ("AXIAL", "FAR", "calling_ae_title_not_recognised", (1, 1, 3)),
    ],
    ids=["unknown peer", "wrong called title", "known title from a wrong address"],
)
def test_who_is_not_known_is_rejected_with_the_standards_reason(
    called: str,
    calling: str,
    reason: str,
    code: tuple[int, int, int],
    open_front_door: OpenListener,
) -> None:
    peers = (Peer(name="MR", ae_title="MR1"), Peer(name="far", ae_title="FAR", host="192.0.2.1"))
    before = rejections(reason)
    with open_front_door(accept_unknown_peers=False, peers=peers) as listener:
        with pytest.raises(Rejected) as rejected:
            associate(listener, called, calling)
        assert rejected.value.code == code
        deadline = time.monotonic() + 10
        while rejections(reason) == before:  # the receiver tells the main process
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert rejections(reason) == before + 1
        with associate(listener) as known:
            assert known.echo() == 0x0000


def test_one_association_too_many_is_rejected_and_a_freed_place_is_given(
    open_front_door: OpenListener,
) -> None:
    with open_front_door(max_associations=2) as listener:
        first, second = associate(listener), associate(listener)
        with pytest.raises(Rejected) as rejected:
            associate(listener)
        assert rejected.value.code == (2, 3, 2)  # for now, local limit
        first.release()
        wait_until(lambda: _is_admitted(listener), 10, "the place that was freed is given")
        second.release()


def _is_admitted(listener: Listener) -> bool:
    try:
        associate(listener).release()
    except Rejected:
        return False
    return True


def test_an_idle_association_is_aborted(open_front_door: OpenListener) -> None:
    with (
        open_front_door(idle_timeout_s=0.3) as listener,
        RawSender(listener.port).associate() as sender,
    ):
        assert sender.answer()[0] == A_ABORT


def test_garbage_at_the_door_disturbs_nobody(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with associate(listener) as association:
            assert association.echo() == 0x0000
        assert listener.problems() == []


def test_stopping_lets_an_association_finish_and_accepts_no_new_one(
    open_front_door: OpenListener, lite_engine: Engine, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    stopped = threading.Event()
    with open_front_door() as listener:
        association = associate(listener)
        assert association.store(files[0]) == 0x0000
        port = listener.port

        def finish() -> None:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:  # until the door is shut
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    break
            association.store_all(files[1:])
            association.release()
            stopped.set()

        sender = threading.Thread(target=finish)
        sender.start()
    sender.join(20)
    assert stopped.is_set()
    assert len(instances(lite_engine)) == len(files)


def test_stopping_aborts_an_association_that_does_not_finish(
    open_front_door: OpenListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.listener.service._SHARE_FOR_ASSOCIATIONS", 0.01)
    with open_front_door() as listener:
        sender = RawSender(listener.port).associate()
    with sender:
        assert sender.is_closed()


def test_a_listener_that_lost_a_part_says_that_it_is_dead(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        assert (listener.dead(), listener.problems()) == (None, [])
    assert listener.dead() == "Instances are not being registered."


def test_a_port_in_use_is_told_in_one_sentence(open_front_door: OpenListener) -> None:
    with (
        open_front_door() as listener,
        pytest.raises(ListenerError, match=str(listener.port)),
        open_front_door(port=listener.port),
    ):
        pass


@needs_dcmtk
def test_a_real_series_arrives_whole_and_soon(
    open_front_door: OpenListener, lite_engine: Engine, scan: Any
) -> None:
    folder = scan("siemens-mr-xa30-classic")
    with open_front_door() as listener:
        begun = time.monotonic()
        done = run(
            DCMSEND, "-aec", "AXIAL", "127.0.0.1", listener.port, "--scan-directories", folder
        )
        seconds = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    assert len(instances(lite_engine)) == 63
    # Generous: a delayed acknowledgement alone would make 63 x 40 ms on top of the work.
    assert seconds < 20

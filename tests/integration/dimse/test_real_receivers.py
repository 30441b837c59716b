"""What real receivers get from our own C-STORE SCU is what lies in the files, byte for byte."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.uid import UID, CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

from services.common.transcoding import ALTERNATIVES, EXPLICIT, IMPLICIT, data_set_in
from services.dimse.files import look_at, look_through
from services.dimse.line import Call
from services.dimse.sending import SendError, SendReport, send_instances
from tests.builders.peers import ORTHANC, orthanc
from tests.builders.senders import needs_dcmtk, rewritten
from tests.builders.series import sound_series
from tests.builders.stow import data_set_of
from tests.conftest import Scan
from tests.integration.dimse.conftest import SYNTAXES, OpenStorescp

pytestmark = needs_dcmtk

DCMCONV = {IMPLICIT: "+ti", EXPLICIT: "+te"}


def send(files: Iterable[Path], port: int, associations: int = 1) -> SendReport:
    """Sends files as the command does."""
    return send_instances(
        [look_at(file) for file in files],
        Call("127.0.0.1", port, "PACS", "AXIAL", answer_timeout_s=20.0),
        associations=associations,
        alternatives=ALTERNATIVES,
        convert=data_set_in,
    )


def uids(files: Iterable[Path]) -> dict[str, Path]:
    return {look_at(file).sop_instance_uid: file for file in files}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("associations", [1, 4])
def test_storescp_gets_every_transfer_syntax_bit_for_bit(
    associations: int, storescp: OpenStorescp, in_every_syntax: list[Path]
) -> None:
    # A process for each association: storescp alone serves one after the other.
    with storescp("--fork") as (port, folder):
        report = send(in_every_syntax, port, associations)
        assert (report.sent, report.failed) == (len(in_every_syntax), ())
        assert report.statuses == {0: len(in_every_syntax)}
        # storescp writes the data set as it came, behind a head of its own.
        received = uids(file for file in folder.iterdir() if file.is_file())
    sent = uids(in_every_syntax)
    assert received.keys() == sent.keys()
    for uid, file in sent.items():
        assert look_at(received[uid]).transfer_syntax_uid == look_at(file).transfer_syntax_uid
        got = data_set_of(received[uid].read_bytes())
        assert digest(got) == digest(data_set_of(file.read_bytes())), file


@pytest.mark.skipif(not ORTHANC.exists(), reason="needs Orthanc (Debian: orthanc)")
def test_orthanc_gets_every_transfer_syntax(in_every_syntax: list[Path], tmp_path: Path) -> None:
    with orthanc(tmp_path / "peer") as peer:
        report = send(in_every_syntax, peer.dicom_port, 2)
        assert (report.sent, report.failed) == (len(in_every_syntax), ())
        received: dict[str, str] = {}
        for identifier in peer.get("/instances"):
            content = peer.file(identifier)
            file = tmp_path / "received.dcm"
            file.write_bytes(content)
            received[look_at(file).sop_instance_uid] = digest(data_set_of(content))
    sent = uids(in_every_syntax)
    assert received == {uid: digest(data_set_of(f.read_bytes())) for uid, f in sent.items()}


@contextmanager
def pynetdicom_scp(
    *syntaxes: str, status: int = 0x0000, **entity: Any
) -> Generator[tuple[int, dict[str, tuple[str, bytes]]]]:
    """pynetdicom's storage SCP; yields its port, and transfer syntax and data set of each UID."""
    stored: dict[str, tuple[str, bytes]] = {}

    def store(event: Any) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        stored[uid] = (str(event.context.transfer_syntax), event.request.DataSet.getvalue())
        return status

    scp = AE(ae_title="PACS")
    for name, value in entity.items():
        setattr(scp, name, value)
    scp.add_supported_context(Verification)
    scp.add_supported_context(CTImageStorage, list(syntaxes))
    server: Any = scp.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        yield server.socket.getsockname()[1], stored
    finally:
        server.shutdown()


@pytest.mark.parametrize("longest", [0, 512, 16382])
def test_pynetdicom_gets_every_transfer_syntax_in_pdus_of_its_size(
    longest: int, in_every_syntax: list[Path]
) -> None:
    with pynetdicom_scp(*SYNTAXES, maximum_pdu_size=longest) as (port, stored):
        report = send(in_every_syntax, port)
    assert (report.sent, report.failed) == (len(in_every_syntax), ())
    for uid, file in uids(in_every_syntax).items():
        syntax, data = stored[uid]
        assert syntax == look_at(file).transfer_syntax_uid
        assert digest(data) == digest(data_set_of(file.read_bytes())), file


@pytest.mark.parametrize(("only", "tool"), [(IMPLICIT, "+te"), (EXPLICIT, "+ti")])
def test_who_accepts_one_uncompressed_syntax_gets_what_is_in_the_other_written_anew(
    only: str, tool: str, scan: Scan, tmp_path: Path
) -> None:
    slices = sorted(scan("philips-ct-phantom-201").glob("*.dcm"))[::7]
    files = rewritten(slices, tmp_path / "sent", "dcmconv", tool)
    compressed = rewritten(slices[:1], tmp_path / "jpeg", "dcmcjpeg", "+e1", "+ud")
    with pynetdicom_scp(only) as (port, stored):
        report = send([*files, *compressed], port)
    ((refused, problem),) = report.failed
    assert refused == compressed[0]
    assert "does not take this transfer syntax" in problem
    for uid, file in uids(files).items():
        syntax, data = stored[uid]
        assert syntax == only
        expected = rewritten([file], tmp_path / uid, "dcmconv", DCMCONV[only])[0]
        content = expected.read_bytes()
        received = content[: look_at(expected).data_set_at] + data
        assert plain_values(received) == plain_values(content)


def plain_values(content: bytes) -> dict[int, bytes]:
    """The bytes of each value that is no sequence, as dcmtk and we write them alike."""
    data = pydicom.dcmread(io.BytesIO(content))
    elements = (data.get_item(tag) for tag in data.keys())  # noqa: SIM118  values stay raw
    return {e.tag: e.value for e in elements if isinstance(e, RawDataElement) and e.value}


def test_a_sop_class_that_is_not_accepted_is_told(tmp_path: Path) -> None:
    files = sound_series(tmp_path / "mr")
    with pynetdicom_scp(EXPLICIT) as (port, _):
        report = send(files, port)
    assert report.sent == 0
    assert {problem for _, problem in report.failed} == {
        "the receiver does not take this SOP class (1.2.840.10008.5.1.4.1.1.4, 1.2.840.10008.1.2.1)"
    }


@pytest.mark.parametrize(
    ("status", "stored"), [(0xB007, True), (0xA700, False), (0xA900, False), (0xC123, False)]
)
def test_each_status_is_counted_and_told(
    status: int, stored: bool, in_every_syntax: list[Path]
) -> None:
    files = in_every_syntax[:3]
    with pynetdicom_scp(*SYNTAXES, status=status) as (port, _):
        report = send(files, port)
    assert report.statuses == {status: 3}
    assert report.sent == (3 if stored else 0)
    told = report.remarks if stored else report.failed
    assert [file for file, _ in told] == files
    assert all(f"status 0x{status:04X}: " in text for _, text in told)


def test_who_rejects_us_is_told_with_the_standards_reason(in_every_syntax: list[Path]) -> None:
    with (
        pynetdicom_scp(*SYNTAXES, require_called_aet=True, ae_title="OTHER") as (port, _),
        pytest.raises(SendError, match="rejected the association permanently: called AE title"),
    ):
        send(in_every_syntax, port)


def test_more_associations_than_the_receiver_accepts_are_fewer(in_every_syntax: list[Path]) -> None:
    with pynetdicom_scp(*SYNTAXES, maximum_associations=2) as (port, stored):
        report = send(in_every_syntax, port, associations=8)
    assert (report.sent, report.failed) == (len(in_every_syntax), ())
    assert len(stored) == len(in_every_syntax)
    assert report.associations <= 3  # one may have ended and another begun


def test_a_receiver_that_aborts_in_between_gets_all_in_the_end(in_every_syntax: list[Path]) -> None:
    lock, asked = threading.Lock(), 0
    stored: set[str] = set()

    def store(event: Any) -> int:
        nonlocal asked
        with lock:
            asked += 1
            if asked % 7 == 0:
                event.assoc.abort()
                return 0xC000
        stored.add(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    scp = AE(ae_title="PACS")
    scp.add_supported_context(CTImageStorage, list(SYNTAXES))
    server: Any = scp.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        report = send(in_every_syntax, server.socket.getsockname()[1])
    finally:
        server.shutdown()
    assert (report.sent, report.failed) == (len(in_every_syntax), ())
    assert stored == set(uids(in_every_syntax))


def test_more_kinds_than_one_association_can_propose_all_arrive(
    storescp: OpenStorescp, tmp_path: Path
) -> None:
    (source, *_) = sound_series(tmp_path / "mr")
    folder = tmp_path / "kinds"
    folder.mkdir()
    for number in range(150):
        data = pydicom.dcmread(source)
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = UID(f"1.2.3.{number}")
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UID(f"1.2.3.4.5.{number}")
        pydicom.dcmwrite(folder / f"{number:03d}.dcm", data)
    files = [instance.file for instance in look_through(folder).instances]
    with storescp("--promiscuous") as (port, received):
        report = send(files, port)
        assert (report.sent, report.failed) == (150, ())
        assert len(list(received.iterdir())) == 150

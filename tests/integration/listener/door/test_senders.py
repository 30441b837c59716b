"""Real senders in every way they have: each instance that arrives is compared with the one sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import JPEG2000, JPEG2000Lossless
from sqlalchemy import Engine

from services.common.store import StudyStore
from services.dimse.files import look_at
from services.dimse.line import Call
from services.dimse.sending import send_instances
from tests.builders.peers import ORTHANC, orthanc
from tests.builders.senders import (
    DCMSEND,
    STORESCU,
    Kept,
    assert_kept_as_sent,
    kept,
    needs_dcmtk,
    rewritten,
    run_pynetdicom_storescu,
    run_together,
    run_tool,
    written,
)
from tests.conftest import Scan
from tests.integration.listener.conftest import OpenListener

pytestmark = needs_dcmtk

SendAtOnce = Callable[[list[list[Path]]], dict[str, Kept]]

_CALL = ("-aec", "AXIAL", "127.0.0.1")
_EXPLICIT = "1.2.840.10008.1.2.1"

# What storescu proposes -> dcmtk's tool that makes such data, and the transfer syntax.
_PROPOSALS: dict[str, tuple[tuple[str, ...], str]] = {
    "-x=": (("dcmconv", "+te"), _EXPLICIT),
    "-xe": (("dcmconv", "+te"), _EXPLICIT),
    "-xb": (("dcmconv", "+tb"), "1.2.840.10008.1.2.2"),
    "-xi": (("dcmconv", "+ti"), "1.2.840.10008.1.2"),
    "-xd": (("dcmconv", "+td"), "1.2.840.10008.1.2.1.99"),
    "-xs": (("dcmcjpeg", "+e1"), "1.2.840.10008.1.2.4.70"),
    "-xy": (("dcmcjpeg", "+eb"), "1.2.840.10008.1.2.4.50"),
    "-xx": (("dcmcjpeg", "+ee"), "1.2.840.10008.1.2.4.51"),
    "-xt": (("dcmcjpls", "+el"), "1.2.840.10008.1.2.4.80"),
    "-xu": (("dcmcjpls", "+en"), "1.2.840.10008.1.2.4.81"),
    "-xr": (("dcmcrle",), "1.2.840.10008.1.2.5"),
}
_VIDEO = ("-xm", "-xh", "-xn", "-xl", "-x2", "-x3", "-xo", "-x4", "-x5")


@pytest.fixture
def slices(scan: Scan) -> list[Path]:
    """The 28 slices of a real CT."""
    return sorted(scan("philips-ct-phantom-201").glob("*.dcm"))


@pytest.fixture
def explicit(slices: list[Path], tmp_path: Path) -> list[Path]:
    """The slices in Explicit VR Little Endian."""
    return rewritten(slices, tmp_path / "sent", "dcmconv", "+te")


@dataclass(frozen=True, slots=True)
class Door:
    """A front door that real senders send to, and what the listener keeps of it."""

    open: OpenListener
    engine: Engine
    store: StudyStore

    def send(self, tool: Path, *options: object, files: Sequence[Path]) -> None:
        """Opens the door and has a tool of dcmtk send files, all of which are accepted."""
        with self.open() as listener:
            done = run_tool(tool, *options, *_CALL, listener.port, *files)
        assert done.returncode == 0, done.stderr

    def kept(self) -> dict[str, Kept]:
        """Every instance that is kept, by SOP instance UID."""
        return kept(self.engine, self.store)

    def assert_kept(self, files: Sequence[Path]) -> dict[str, Kept]:
        """These files' instances and no others are kept as they were sent; returns them."""
        found = self.kept()
        assert_kept_as_sent(files, found)
        return found


@pytest.fixture
def door(open_front_door: OpenListener, lite_engine: Engine, store: StudyStore) -> Door:
    """A door, not opened yet."""
    return Door(open_front_door, lite_engine, store)


@pytest.fixture
def send_at_once(door: Door) -> SendAtOnce:
    """Sends each share of files by a dcmsend of its own, all at once; what is kept then."""

    def sent(shares: list[list[Path]]) -> dict[str, Kept]:
        with door.open(receivers=2) as listener:
            codes = run_together([DCMSEND, *_CALL, listener.port, *share] for share in shares)
        assert codes == [0] * len(shares)
        return door.kept()

    return sent


@pytest.mark.parametrize("option", _PROPOSALS)
def test_storescu_sends_in_every_transfer_syntax_that_it_proposes(
    option: str,
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    tool, syntax = _PROPOSALS[option]
    files = rewritten(slices[::4], tmp_path / "sent", *tool)
    door.send(STORESCU, option, files=files)
    found = door.assert_kept(files)
    assert {one.transfer_syntax_uid for one in found.values()} == {syntax}


@pytest.mark.parametrize(
    ("option", "name"), [("-xs", "siemens-mr-mosaic-jpeg"), ("-xv", "siemens-mr-mosaic-jpeg2000")]
)
def test_storescu_sends_what_a_scanner_compressed(
    option: str,
    name: str,
    door: Door,
    scan: Scan,
    tmp_path: Path,
) -> None:
    # Rewritten only so that lengths and paddings are dcmtk's own: the fragments stay.
    files = rewritten(sorted(scan(name).glob("*.dcm")), tmp_path / "sent", "dcmconv")
    door.send(STORESCU, option, files=files)
    door.assert_kept(files)


@pytest.mark.parametrize(("option", "syntax"), [("-xv", JPEG2000Lossless), ("-xw", JPEG2000)])
def test_storescu_sends_jpeg_2000(
    option: str,
    syntax: str,
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    compressed: list[Path] = []
    for file in slices[::9]:
        data = pydicom.dcmread(file)
        how: dict[str, Any] = {"j2k_cr": [8.0]} if syntax == JPEG2000 else {}
        data.compress(syntax, generate_instance_uid=False, **how)
        compressed.append(written(data, tmp_path / "made" / file.name))
    files = rewritten(compressed, tmp_path / "sent", "dcmconv")
    door.send(STORESCU, option, files=files)
    door.assert_kept(files)


def test_a_sender_that_proposes_only_video_finds_no_context(door: Door, slices: list[Path]) -> None:
    with door.open() as listener:
        for option in _VIDEO:
            done = run_tool(STORESCU, option, *_CALL, listener.port, slices[0])
            assert done.returncode != 0, option
            assert "No Acceptable Presentation Contexts" in done.stderr, option
    assert door.kept() == {}


@pytest.mark.parametrize("tool", [STORESCU, DCMSEND], ids=["storescu", "dcmsend"])
def test_pdus_of_every_size_with_and_without_nagle(
    tool: Path,
    door: Door,
    explicit: list[Path],
) -> None:
    ways = [(size, nodelay) for size in (4096, 16384, 65534, 131072) for nodelay in (True, False)]
    each = len(explicit) // len(ways)
    sent: list[Path] = []
    with door.open() as listener:
        for number, (size, nodelay) in enumerate(ways):
            some = explicit[number * each : (number + 1) * each]
            sizes = ("--max-pdu", size, "--max-send-pdu", size)
            done = run_tool(tool, *sizes, *_CALL, listener.port, *some, nodelay=nodelay)
            assert done.returncode == 0, (size, nodelay, done.stderr)
            sent += some
    door.assert_kept(sent)


@pytest.mark.parametrize("max_pdu_bytes", [4096, 16384, 1 << 20])
def test_our_own_longest_pdu_is_kept_to(
    max_pdu_bytes: int,
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    files = rewritten(slices[:6], tmp_path / "sent", "dcmconv", "+te")
    with door.open(max_pdu_bytes=max_pdu_bytes) as listener:
        done = run_tool(DCMSEND, *_CALL, listener.port, *files[:3])
        assert done.returncode == 0, done.stderr
        call = Call("127.0.0.1", listener.port, "AXIAL", "OWN")
        assert send_instances([look_at(file) for file in files[3:]], call).failed == ()
    door.assert_kept(files)


@pytest.mark.parametrize("senders", [4, 8])
def test_several_associations_at_once_mix_nothing_up(
    senders: int, send_at_once: SendAtOnce, explicit: list[Path]
) -> None:
    found = send_at_once([explicit[number::senders] for number in range(senders)])
    assert_kept_as_sent(explicit, found)


def test_the_same_instances_from_two_senders_at_once_are_kept_once(
    send_at_once: SendAtOnce, explicit: list[Path]
) -> None:
    assert_kept_as_sent(explicit, send_at_once([explicit] * 2))


@pytest.mark.parametrize(
    ("option", "syntax"),
    [("-xe", _EXPLICIT), ("-xi", "1.2.840.10008.1.2"), ("-xb", "1.2.840.10008.1.2.2")],
)
def test_pynetdicoms_storescu_sends_in_each_way_that_it_has(
    option: str,
    syntax: str,
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    files = rewritten(slices[::3], tmp_path / "sent", *_PROPOSALS[option][0])
    with door.open() as listener:
        run_pynetdicom_storescu(option, *_CALL[2:], listener.port, tmp_path / "sent", *_CALL[:2])
    found = door.assert_kept(files)
    assert {one.transfer_syntax_uid for one in found.values()} == {syntax}


def test_what_a_sender_rewrites_on_its_way_is_kept_as_it_came(
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    # dcmsend proposes Explicit VR Little Endian before what the files are in.
    files = rewritten(slices[::4], tmp_path / "sent", "dcmconv", "+ti")
    door.send(DCMSEND, files=files)
    on_the_way = rewritten(files, tmp_path / "rewritten", "dcmconv", "+te")
    door.assert_kept(on_the_way)


@pytest.mark.skipif(not ORTHANC.exists(), reason="needs Orthanc (Debian: orthanc)")
@pytest.mark.parametrize("nodelay", [True, False], ids=["nodelay", "nagle"])
@pytest.mark.parametrize(
    ("tool", "how_many"),
    [(("dcmconv", "+te"), 28), (("dcmcjpeg", "+e1"), 9), (("dcmcjpls", "+el"), 9)],
    ids=["uncompressed", "jpeg-lossless", "jpeg-ls"],
)
def test_orthanc_sends_a_series(
    tool: tuple[str, ...],
    how_many: int,
    nodelay: bool,
    door: Door,
    slices: list[Path],
    tmp_path: Path,
) -> None:
    files = rewritten(slices[:how_many], tmp_path / "sent", *tool)
    with door.open() as listener, orthanc(tmp_path, nodelay=nodelay) as sender:
        sender.call("PUT", "/modalities/axial", ["AXIAL", "127.0.0.1", listener.port])
        ids = [sender.call("POST", "/instances", file.read_bytes())["ID"] for file in files]
        sent = sender.call("POST", "/modalities/axial/store", {"Resources": ids})
        assert (sent["InstancesCount"], sent["FailedInstancesCount"]) == (len(files), 0)
    found = door.assert_kept(files)
    assert {one.peer for one in found.values()} == {"PACS"}

"""What kinds of objects are taken and what answers a proposal gets, with real senders."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    UID,
    EncapsulatedPDFStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    MRImageStorage,
)
from sqlalchemy import Engine

from services.common.settings import Peer
from services.common.store import StudyStore
from tests.builders.front_door import associate
from tests.builders.senders import (
    DCMSEND,
    STORESCU,
    assert_kept_as_sent,
    kept,
    needs_dcmtk,
    rewritten,
    run_tool,
    written,
)
from tests.builders.series import edit, sound_series
from tests.conftest import Scan
from tests.integration.listener.conftest import OpenListener

_CALL = ("-aec", "AXIAL", "127.0.0.1")
_VERIFICATION = "1.2.840.10008.1.1"
# Philips' private "MR Spectrum Storage".
_PRIVATE = "1.3.46.670589.11.0.0.12.1"
_UNKNOWN = "1.2.3.4.5.6.7"
_ECHO = (_VERIFICATION, [ExplicitVRLittleEndian])
# PS3.8 table 9-18.
_ACCEPTED, _USER_REJECTION, _NO_ABSTRACT_SYNTAX, _NO_TRANSFER_SYNTAX = 0, 1, 3, 4


@needs_dcmtk
@pytest.mark.parametrize("sender", [STORESCU, DCMSEND], ids=["storescu", "dcmsend"])
@pytest.mark.parametrize(
    "name",
    ["siemens-mr-xa30-enhanced", "philips-mr-fieldmap-enhanced", "philips-mr-asl-source-enhanced"],
)
def test_enhanced_multi_frame_objects_arrive_whole(
    name: str,
    sender: Path,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    scan: Scan,
    tmp_path: Path,
) -> None:
    files = rewritten(sorted(scan(name).glob("*.dcm")), tmp_path / "sent", "dcmconv", "+te")
    assert pydicom.dcmread(files[0], stop_before_pixels=True).SOPClassUID == EnhancedMRImageStorage
    with open_front_door() as listener:
        done = run_tool(sender, *_CALL, listener.port, *files)
    assert done.returncode == 0, done.stderr
    assert_kept_as_sent(files, kept(lite_engine, store))


@needs_dcmtk
@pytest.mark.parametrize("option", ["-xe", "-xi", "-xb", "-xd"])
def test_objects_without_images_arrive_whole(
    option: str,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
) -> None:
    rewriting = {"-xe": "+te", "-xi": "+ti", "-xb": "+tb", "-xd": "+td"}[option]
    made = rewritten(_objects(tmp_path / "made"), tmp_path / "sent", "dcmconv", rewriting)
    with open_front_door() as listener:
        done = run_tool(STORESCU, option, "-R", *_CALL, listener.port, *made)
    assert done.returncode == 0, done.stderr
    assert_kept_as_sent(made, kept(lite_engine, store))


def _objects(folder: Path) -> list[Path]:
    """Segmentation, two structured reports, RT structure set, plan and dose, encapsulated PDF."""
    folder.mkdir()
    names = ("liver_1frame", "test-SR", "reportsi", "rtstruct", "rtplan", "rtdose")
    files: list[Path] = []
    for name in names:
        found = get_testdata_file(f"{name}.dcm", download=False)
        assert isinstance(found, str)
        files.append(Path(found))
    page = folder / "page.pdf"
    page.write_bytes(b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n")
    document = folder / "document.dcm"
    done = run_tool("/usr/bin/pdf2dcm", page, document)
    assert done.returncode == 0, done.stderr
    assert pydicom.dcmread(document).SOPClassUID == EncapsulatedPDFStorage
    return [*files, document]


def test_htj2k_is_kept_as_sent(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    # The fragment is no code stream: what is received is not decoded.
    data = pydicom.dcmread(sound_series(tmp_path / "dicom")[0])
    data.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(998)])
    data["PixelData"].is_undefined_length = True
    data.file_meta.TransferSyntaxUID = HTJ2KLossless
    file = written(data, tmp_path / "sent" / "one.dcm")
    contexts = [(MRImageStorage, [HTJ2KLossless])]
    with open_front_door() as listener, associate(listener, contexts=contexts) as association:
        assert association.store(file) == 0x0000
    assert_kept_as_sent([file], kept(lite_engine, store))


def test_a_private_sop_class_is_refused_until_it_is_named(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    file = edit(sound_series(tmp_path / "dicom")[0], SOPClassUID=_PRIVATE)
    data = pydicom.dcmread(file)
    data.file_meta.MediaStorageSOPClassUID = UID(_PRIVATE)
    data.save_as(file)
    contexts = [(_PRIVATE, [ExplicitVRLittleEndian]), _ECHO]
    with open_front_door() as listener, associate(listener, contexts=contexts) as association:
        assert association.results() == {_PRIVATE: _NO_ABSTRACT_SYNTAX, _VERIFICATION: _ACCEPTED}
    with (
        open_front_door(private_sop_classes=(_PRIVATE,)) as listener,
        associate(listener, contexts=contexts) as association,
    ):
        assert association.results() == {_PRIVATE: _ACCEPTED, _VERIFICATION: _ACCEPTED}
        assert association.store(file) == 0x0000
    assert_kept_as_sent([file], kept(lite_engine, store))


def test_each_context_gets_the_standards_result(open_front_door: OpenListener) -> None:
    peers = (
        Peer(name="all", ae_title="ALL"),
        Peer(name="stores", ae_title="STORES", verbs=("store",)),
        Peer(name="echoes", ae_title="ECHOES", verbs=("echo",)),
    )
    proposed = [
        _ECHO,
        (MRImageStorage, [MPEG2MPML, ExplicitVRLittleEndian]),
        (EnhancedMRImageStorage, [MPEG2MPML, "1.2.3"]),
        (_UNKNOWN, [ExplicitVRLittleEndian]),
    ]
    fixed = {EnhancedMRImageStorage: _NO_TRANSFER_SYNTAX, _UNKNOWN: _NO_ABSTRACT_SYNTAX}
    with open_front_door(accept_unknown_peers=False, peers=peers) as listener:
        for caller, echo, store in (
            ("ALL", _ACCEPTED, _ACCEPTED),
            ("STORES", _USER_REJECTION, _ACCEPTED),
            ("ECHOES", _ACCEPTED, _USER_REJECTION),
        ):
            association = associate(listener, calling=caller, contexts=proposed)
            expected = {**fixed, _VERIFICATION: echo, MRImageStorage: store}
            if caller == "ECHOES":
                # Whether it could be stored at all is no business of who may not store.
                expected[EnhancedMRImageStorage] = _USER_REJECTION
            assert association.results() == expected, caller
            association.release()


def test_every_context_of_a_long_proposal_is_answered(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        uids = [_UNKNOWN + f".{number}" for number in range(127)]
        contexts = [(uid, [ExplicitVRLittleEndian]) for uid in uids]
        with associate(listener, contexts=[*contexts, _ECHO]) as association:
            assert association.echo() == 0x0000
            assert set(association.results().values()) == {_ACCEPTED, _NO_ABSTRACT_SYNTAX}
            assert len(association.results()) == 128

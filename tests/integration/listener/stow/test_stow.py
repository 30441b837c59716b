"""The STOW-RS door: what is stored, what is refused and why, and what is answered."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx
import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import JPEG2000Lossless
from sqlalchemy import Engine, select

from services.common.database import ConflictRow, InstanceRow
from services.common.settings import AuditSettings
from services.common.store import StudyStore
from services.common.telemetry import audit
from services.listener.stow import instance
from tests.builders.running_listener import stow_port_of, wait_until_registered
from tests.builders.series import edit, small_volume, sound_series
from tests.builders.stow import (
    BOUNDARY,
    CONTENT_TYPE,
    OpenDoor,
    answered,
    body,
    data_set_of,
    open_door,
    part,
    post,
    reasons,
    uid_of,
)
from tests.integration.listener.conftest import OpenListener

_XML = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def test_dicomweb_client_stores_a_study(sound_files: list[Path], tmp_path: Path) -> None:
    datasets = [pydicom.dcmread(file) for file in sound_files]
    with open_door(tmp_path) as door:
        answer = DICOMwebClient(door.url).store_instances(datasets)
        study = str(datasets[0].StudyInstanceUID)
        again = DICOMwebClient(door.url).store_instances(datasets[:1], study_instance_uid=study)
        stored = door.stored()
    referenced = {str(item.ReferencedSOPInstanceUID) for item in answer.ReferencedSOPSequence}
    assert referenced == {str(dataset.SOPInstanceUID) for dataset in datasets} == set(stored)
    assert "FailedSOPSequence" not in answer
    assert len(again.ReferencedSOPSequence) == 1
    first, second = door.ended
    assert first.orderly
    assert {message.association for message in door.told[:-1]} == {first.association}
    assert door.told[-1].association == second.association != first.association


def test_data_sets_are_kept_as_sent_behind_meta_information_of_ours(
    sound_files: list[Path], tmp_path: Path
) -> None:
    contents = [file.read_bytes() for file in sound_files]
    with open_door(tmp_path) as door:
        response = post(door, body(contents))
        assert response.status_code == 200
        stored = door.stored()
        meta = pydicom.dcmread(door.spooled()[0].path).file_meta
    for file, content in zip(sound_files, contents, strict=True):
        assert stored[uid_of(file)] == data_set_of(content)
    assert meta.ImplementationVersionName == "AXIAL_0_1"
    assert meta.SourceApplicationEntityTitle == "unknown"


def test_curl_posts_a_file(sound_files: list[Path], tmp_path: Path) -> None:
    sent = tmp_path / "body"
    sent.write_bytes(body([sound_files[0].read_bytes()]))
    with open_door(tmp_path) as door:
        done = subprocess.run(
            [
                *("curl", "-sS", "-w", "%{http_code}", "-X", "POST", f"{door.url}/studies"),
                *("-H", f"Content-Type: {CONTENT_TYPE}", "-H", "Expect: 100-continue"),
                *("--data-binary", f"@{sent}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert len(door.told) == 1
    assert done.stdout.endswith("200")
    assert uid_of(sound_files[0]) in done.stdout


def test_the_answer_as_xml_and_with_retrieve_urls(sound_files: list[Path], tmp_path: Path) -> None:
    file = pydicom.dcmread(sound_files[0])
    with open_door(tmp_path, public_url="https://pacs.example/dicom-web/") as door:
        content = body([sound_files[0].read_bytes(), b"no DICOM"])
        response = post(door, content, Accept="application/dicom+xml")
        as_json = answered(post(door, content))
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(response.content)
    assert root.tag == f"{_XML}NativeDicomModel"
    texts = {
        attribute.get("keyword"): attribute.findtext(f"{_XML}Value")
        for attribute in root.iter(f"{_XML}DicomAttribute")
    }
    study_url = f"https://pacs.example/dicom-web/studies/{file.StudyInstanceUID}"
    place = f"{study_url}/series/{file.SeriesInstanceUID}/instances/{file.SOPInstanceUID}"
    assert texts["ReferencedSOPInstanceUID"] == file.SOPInstanceUID
    assert texts["ReferencedSOPClassUID"] == file.SOPClassUID
    assert texts["FailureReason"] == str(0xC000)
    assert as_json.RetrieveURL == study_url
    assert as_json.ReferencedSOPSequence[0].RetrieveURL == place


def test_each_bad_instance_has_its_reason_and_fails_no_other(
    sound_files: list[Path], tmp_path: Path
) -> None:
    good = [file.read_bytes() for file in sound_files[:2]]
    study = str(pydicom.dcmread(sound_files[0]).StudyInstanceUID)
    other_study = edit(sound_files[2], StudyInstanceUID="1.2.3").read_bytes()
    no_series = edit(sound_files[3], SeriesInstanceUID=None).read_bytes()
    other_class = changed_meta(sound_files[4], MediaStorageSOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    private = "1.2.826.0.1.3680043.9.9"
    edited = edit(sound_files[5], SOPClassUID=private)
    unknown_class = changed_meta(edited, MediaStorageSOPClassUID=private)
    unknown_syntax = good[0].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.9\0", 1)
    bad = [other_study, no_series, other_class, unknown_class, unknown_syntax, b"", b"x" * 200]
    expected = [0xA900, 0xC000, 0xA900, 0x0122, 0xC122, 0xC000, 0xC000]
    for content, reason in zip(bad, expected, strict=True):
        with open_door(tmp_path) as door:
            response = post(door, body([good[0], content, good[1]]), study)
            assert response.status_code == 202
            assert reasons(response) == [reason]
            assert len(answered(response).ReferencedSOPSequence) == 2
            assert len(door.told) == 2
            assert len(door.files()) == len({file.path for file in door.spooled()})
        for file in door.files():
            file.unlink()
    with open_door(tmp_path) as door:
        response = post(door, body(bad), study)
        # Those that name an instance come first, then those that name none.
        assert (response.status_code, reasons(response)) == (409, expected)
        assert door.told == []


def changed_meta(file: Path, **values: str) -> bytes:
    data = pydicom.dcmread(file)
    for keyword, value in values.items():
        setattr(data.file_meta, keyword, value)
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=False)
    return buffer.getvalue()


def test_compressed_parts_with_a_transfer_syntax_of_their_own(tmp_path: Path) -> None:
    file = sound_series(tmp_path / "dicom", small_volume((1, 70, 64)))[0]
    data = pydicom.dcmread(file)
    data.compress(JPEG2000Lossless, generate_instance_uid=False)
    buffer = io.BytesIO()
    data.save_as(buffer)
    content = buffer.getvalue()
    right = f"application/dicom; transfer-syntax={JPEG2000Lossless}"
    wrong = "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"
    closing = f"--{BOUNDARY}--".encode()
    with open_door(tmp_path) as door:
        assert post(door, part(content, right) + closing).status_code == 200
        assert door.spooled()[0].meta.transfer_syntax_uid == JPEG2000Lossless
        assert reasons(post(door, part(content, wrong) + closing)) == [0xC000]
        assert reasons(post(door, part(content, "image/jpeg") + closing)) == [0xC000]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Content-Type": "application/dicom"}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": CONTENT_TYPE.replace("dicom", "dicom+json")}, 415),
        ({"Content-Type": CONTENT_TYPE.replace("related", "form-data")}, 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, 400),
        ({"Content-Encoding": "gzip"}, 415),
        ({"Accept": "text/html"}, 406),
        ({"Accept": "text/html, application/*;q=0.1"}, 200),
        ({"Accept": "application/dicom+xml;q=0.2, application/json"}, 200),
    ],
)
def test_headers(
    changes: dict[str, str], status: int, sound_files: list[Path], tmp_path: Path
) -> None:
    with open_door(tmp_path) as door:
        response = post(door, body([sound_files[0].read_bytes()]), **changes)
        assert response.status_code == status
        assert len(door.told) == (status == 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/studies", 405),
        ("POST", "/", 404),
        ("POST", "/studies/1.2.3/series", 404),
        ("POST", "/studies/..", 404),
        ("POST", "/studies/not-a-uid", 400),
        ("POST", "/instances", 404),
    ],
)
def test_other_places(method: str, path: str, status: int, tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        headers = {"Content-Type": CONTENT_TYPE}
        response = httpx.request(method, door.url + path, content=body([]), headers=headers)
        assert response.status_code == status


@pytest.mark.parametrize(
    "content", [b"", b"no multipart", body([]), part(b"x") + b"--other--"], ids=range(4)
)
def test_a_body_that_is_none_is_a_bad_request(content: bytes, tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        assert post(door, content).status_code == 400
        assert door.files() == []


def test_what_came_before_a_malformed_part_is_answered_for(
    sound_files: list[Path], tmp_path: Path
) -> None:
    content = part(sound_files[0].read_bytes()) + f"--{BOUNDARY}\r\nno field\r\n\r\n".encode()
    with open_door(tmp_path) as door:
        response = post(door, content + b"x" * (3 << 20))
        assert response.status_code == 202
        assert len(answered(response).ReferencedSOPSequence) == 1
        assert reasons(response) == [0xC000]
        assert [message.orderly for message in door.ended] == [False]


def test_an_unplanned_error_fails_one_instance_only(
    sound_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = instance.scan_written, iter([1, 0, 1])

    def sometimes(*values: Any, **named: Any) -> Any:
        if next(calls) == 0:
            raise RuntimeError("Zebra^Quagga")
        return real(*values, **named)

    monkeypatch.setattr(instance, "scan_written", sometimes)
    with open_door(tmp_path) as door:
        response = post(door, body([file.read_bytes() for file in sound_files[:3]]))
        assert (response.status_code, reasons(response)) == (202, [0x0110])
        assert b"Zebra" not in response.content
        assert len(door.told) == len(door.files()) == 2


def test_the_audit_trail_tells_of_transfers_by_study(
    sound_files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = audit.AuditTrail("listener", tmp_path / "audit", AuditSettings())
    monkeypatch.setattr(audit, "_trail", trail)
    with open_door(tmp_path) as door:
        post(door, body([file.read_bytes() for file in sound_files]))
    lines = (tmp_path / "audit" / "listener.jsonl").read_text().splitlines()
    (event,) = [json.loads(line) for line in lines]
    assert event["event"] == "instances_received"
    (study,) = event["ParticipantObjectIdentification"]
    assert study["ParticipantObjectID"] == pydicom.dcmread(sound_files[0]).StudyInstanceUID
    (by_class,) = study["ParticipantObjectDescription"]["SOPClass"]
    assert by_class["NumberOfInstances"] == len(sound_files)


def test_a_whole_listener_registers_what_came_over_http(
    sound_files: list[Path], open_front_door: OpenListener, lite_engine: Engine, store: StudyStore
) -> None:
    data = pydicom.dcmread(sound_files[0])
    with open_front_door(stow={"port": 0}) as listener:
        url = f"http://127.0.0.1:{stow_port_of(listener)}"
        sent = [file.read_bytes() for file in sound_files]
        assert post(OpenDoor(url, Path()), body(sent)).status_code == 200
        assert post(OpenDoor(url, Path()), body(sent[:1])).status_code == 200  # once more
        assert (listener.dead(), listener.problems()) == (None, [])
    with lite_engine.connect() as connection:
        rows = connection.execute(select(InstanceRow.__table__)).all()
    assert {row.sop_instance_uid for row in rows} == {uid_of(file) for file in sound_files}
    assert {row.study_uid for row in rows} == {data.StudyInstanceUID}
    for file in sound_files:
        (row,) = [row for row in rows if row.sop_instance_uid == uid_of(file)]
        assert pydicom.dcmread(store.path(row.store_key)) == pydicom.dcmread(file)


def test_without_a_port_there_is_no_http_door(open_front_door: OpenListener) -> None:
    with open_front_door() as listener:
        assert stow_port_of(listener) is None


def test_a_peer_with_a_long_name_has_an_ae_title_all_the_same(
    sound_files: list[Path], tmp_path: Path
) -> None:
    name = "cloud-router-north-wing"
    peer = {"name": name, "addresses": ["127.0.0.1"], "verbs": ["stow"]}
    with open_door(tmp_path, listener={"accept_unknown_peers": False, "peers": [peer]}) as door:
        assert post(door, body([sound_files[0].read_bytes()])).status_code == 200
        assert [file.meta.peer for file in door.spooled()] == ["cloud-router-nor"]
        assert [message.peer for message in door.told] == [name]


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
def test_several_values_are_no_uid(keyword: str, sound_files: list[Path], tmp_path: Path) -> None:
    file = pydicom.dcmread(sound_files[0])
    file[keyword].value = [str(file[keyword].value), "1.2.3"]
    sent = tmp_path / "several.dcm"
    file.save_as(sent)
    with open_door(tmp_path) as door:
        response = post(door, body([sent.read_bytes()]))
        assert (response.status_code, reasons(response)) == (409, [0xC000])
        assert door.told == []


def test_other_bytes_under_a_known_uid_are_refused_where_the_policy_says_so(
    open_front_door: OpenListener, sound_files: list[Path], lite_engine: Engine
) -> None:
    first, second, *_ = (file.read_bytes() for file in sound_files)
    other = first[:-1] + bytes((first[-1] ^ 1,))
    stow = {"port": 0, "host": "127.0.0.1"}
    with open_front_door(conflicts="refuse", stow=stow) as listener:
        door = OpenDoor(f"http://127.0.0.1:{stow_port_of(listener)}", Path())
        assert post(door, body([first])).status_code == 200
        assert post(door, body([first])).status_code == 200  # the same once more
        response = post(door, body([other, second]))
        assert (response.status_code, reasons(response)) == (202, [0x0111])
        assert wait_until_registered(listener, 20)
    with lite_engine.connect() as connection:
        assert connection.execute(select(ConflictRow.__table__)).all() == []
        rows = connection.execute(select(InstanceRow.__table__)).all()
    assert {row.sop_instance_uid for row in rows} == {uid_of(file) for file in sound_files[:2]}

"""Orthanc as sender and as destination, beside a destination that is down."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.cli.stack.local_settings import free_port
from tests.e2e.head_studies import study_uid, write_head
from tests.e2e.stack import SEG, SR, StackUnderTest, running_stack

ORTHANC = Path("/usr/sbin/Orthanc")
pytestmark = pytest.mark.skipif(not ORTHANC.exists(), reason="needs Debian's package orthanc")


@dataclass
class Orthanc:
    """A running Orthanc."""

    dicom_port: int
    url: str

    def get(self, path: str) -> Any:
        """An answer of its REST API."""
        return httpx.get(self.url + path, timeout=30, trust_env=False).raise_for_status().json()

    def post(self, path: str, **arguments: Any) -> Any:
        """Posts to its REST API."""
        answer = httpx.post(self.url + path, timeout=120, trust_env=False, **arguments)
        return answer.raise_for_status().json()

    def classes(self) -> list[str]:
        """The SOP classes of all instances it holds, sorted."""
        paths = [f"/instances/{uid}/metadata/SopClassUid" for uid in self.get("/instances")]
        return sorted(httpx.get(self.url + path, trust_env=False).text for path in paths)


@contextmanager
def _orthanc(folder: Path, dicom_port: int, axial_port: int) -> Generator[Orthanc]:
    folder.mkdir()
    http_port = free_port()
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "DicomAlwaysAllowStore": True,
        "DicomCheckCalledAet": True,
        "DicomModalities": {"axial": ["AXIAL", "127.0.0.1", axial_port]},
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        # Without TCP_NODELAY Orthanc's answers wait 40 ms each for Nagle's algorithm.
        process = subprocess.Popen(
            [str(ORTHANC), str(file)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TCP_NODELAY": "1"},
        )
        try:
            peer = Orthanc(dicom_port, f"http://127.0.0.1:{http_port}")
            _wait_for(peer, process)
            yield peer
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(peer: Orthanc, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            peer.get("/system")
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("Orthanc did not start.")


@dataclass
class Hospital:
    """A stack with Orthanc on both sides and a destination that is down."""

    stack: StackUnderTest
    orthanc: Orthanc


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Generator[Hospital]:
    folder = tmp_path_factory.mktemp("hospital")
    dicom_port, down_port = free_port(), free_port()
    destinations = [
        {"name": "orthanc", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": dicom_port},
        {
            "name": "down",
            "ae_title": "DOWN",
            "host": "127.0.0.1",
            "port": down_port,
            "max_attempts": 3,
            "first_backoff_s": 0.1,
        },
    ]
    with running_stack(folder / "stack", reporting={"destinations": destinations}) as stack:
        port = stack.settings.listener.port
        with _orthanc(folder / "orthanc", dicom_port, port) as orthanc:
            yield Hospital(stack, orthanc)


@pytest.fixture(scope="module")
def delivered(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A study that Orthanc sent, with its results wherever they can go."""
    stack, orthanc = hospital.stack, hospital.orthanc
    files = write_head(tmp_path_factory.mktemp("orthanc-study"), "orthanc")
    for file in files:
        orthanc.post("/instances", content=file.read_bytes())
    (study,) = orthanc.get("/studies")
    sent = orthanc.post("/modalities/axial/store", content=study)
    assert sent["InstancesCount"] == len(files)
    assert sent["FailedInstancesCount"] == 0
    return stack.wait(
        study_uid("orthanc"),
        lambda s: (
            bool(s["jobs"])
            and {d["state"] for d in s["jobs"][0]["deliveries"]} == {"delivered", "dead", "held"}
        ),
        "deliver what can be delivered and give up on the rest",
    )


def test_orthanc_sends_and_receives_and_a_dead_destination_delays_nobody(
    hospital: Hospital, delivered: dict[str, Any]
) -> None:
    stack, orthanc = hospital.stack, hospital.orthanc
    states = {(d["destination"], d["kind"]): d for d in delivered["jobs"][0]["deliveries"]}
    assert states["orthanc", "SEG"]["state"] == states["orthanc", "SR"]["state"] == "delivered"
    assert states["pacs", "SEG"]["state"] == states["pacs", "SR"]["state"] == "delivered"
    assert states["down", "SEG"]["state"] == "dead"
    assert states["down", "SEG"]["last_error"]
    # A report never goes where the segmentation that it names did not.
    assert states["down", "SR"]["state"] == "held"
    assert orthanc.classes().count(SEG) == 1
    assert orthanc.classes().count(SR) == 1
    assert len(stack.in_pacs(delivered["study_uid"], SEG)) == 1
    assert [fate["reason"] for fate in delivered["fate"]] == ["segmented"]


def test_results_that_orthanc_sends_back_are_recognised(
    hospital: Hospital, delivered: dict[str, Any]
) -> None:
    stack, orthanc = hospital.stack, hospital.orthanc
    (study,) = orthanc.get("/studies")
    orthanc.post("/modalities/axial/store", content=study)
    again = stack.wait(
        delivered["study_uid"],
        lambda s: (
            s["revision"] >= 2 and len(s["fate"]) == 3 and all(fate["reason"] for fate in s["fate"])
        ),
        "have a fate for what came back",
    )
    reasons = sorted(fate["reason"] for fate in again["fate"])
    assert reasons == ["own_result", "own_result", "unchanged"]
    assert len(again["jobs"]) == 1

"""A study in, a segmentation and a report out."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import highdicom as hd
import httpx
import pydicom
import pytest

from services.common.identity import derived_uid
from tests.e2e.head_studies import BIRTH_DATE, PATIENT_ID, PATIENT_NAME, study_uid, write_head
from tests.e2e.stack import SEG, SR, StackUnderTest

_SERVICES = ("listener", "orchestrator", "reporting", "gateway")


def _sr_volume_ml(report: pydicom.Dataset) -> float:
    document = hd.sr.Comprehensive3DSR.from_dataset(report)
    (group,) = document.content.get_volumetric_roi_measurement_groups()  # type: ignore[union-attr]
    (volume,) = group.get_measurements()
    assert volume.unit.value == "mL"
    return float(volume.value)


def _seg_volume_ml(seg: pydicom.Dataset) -> float:
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    row, column = (float(v) for v in measures.PixelSpacing)
    voxel_mm3 = row * column * float(measures.SpacingBetweenSlices)
    return int(seg.pixel_array.sum()) * voxel_mm3 / 1000.0


@pytest.fixture(scope="module")
def done(stack: StackUnderTest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One finished study."""
    folder = tmp_path_factory.mktemp("whole")
    write_head(folder, "whole way")
    stack.send(folder)
    return stack.wait_until_done(study_uid("whole way"))


def test_study_ends_processed_with_one_seg_and_one_sr(
    stack: StackUnderTest, done: dict[str, Any]
) -> None:
    assert [fate["fate"] for fate in done["fate"]] == ["processed"]
    assert len(stack.in_pacs(done["study_uid"], SEG)) == 1
    assert len(stack.in_pacs(done["study_uid"], SR)) == 1


def test_volume_in_the_report_is_the_segmentations_own(
    stack: StackUnderTest, done: dict[str, Any]
) -> None:
    (seg,) = stack.in_pacs(done["study_uid"], SEG)
    (report,) = stack.in_pacs(done["study_uid"], SR)
    told = done["jobs"][0]["measurements"][0]["value"]
    assert _sr_volume_ml(report) == pytest.approx(_seg_volume_ml(seg), rel=1e-4)
    assert told == pytest.approx(_seg_volume_ml(seg), rel=1e-4)
    assert 1300 < told < 1500  # the pydeface head: 1394 mL by deepbet at full resolution


def test_one_trace_follows_the_revision_through_the_services(
    stack: StackUnderTest, done: dict[str, Any]
) -> None:
    spans = [
        (file.stem, json.loads(line))
        for file in (stack.folder / "data" / "traces").glob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    revision_trace = {
        span["context"]["trace_id"] for _, span in spans if span["name"] == "listener.receive"
    }
    infer = [span for _, span in spans if span["name"] == "orchestrator.infer"]
    trace = infer[0]["context"]["trace_id"]
    assert trace in revision_trace
    services = {service for service, span in spans if span["context"]["trace_id"] == trace}
    assert services >= {"listener", "orchestrator", "reporting"}


def test_logs_metrics_and_traces_hold_no_patient_data(
    stack: StackUnderTest, done: dict[str, Any]
) -> None:
    texts = {
        str(file): file.read_text(encoding="utf-8", errors="replace")
        for kind in ("logs", "traces")
        for file in (stack.folder / "data" / kind).iterdir()
    }
    settings = stack.settings
    ports = {
        "listener": settings.listener.health_port,
        "orchestrator": settings.orchestrator.health_port,
        "reporting": settings.reporting.health_port,
        "gateway": settings.gateway.port,
        "triton": settings.triton.metrics_port,
    }
    for service, port in ports.items():
        texts[f"{service} metrics"] = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    texts["answers"] = json.dumps(stack.study(done["study_uid"]))
    secrets = [*PATIENT_NAME.split("^"), PATIENT_ID, BIRTH_DATE, "GEHEIM-ACC"]
    leaks = [
        (where, secret)
        for where, text in texts.items()
        for secret in secrets
        if secret.lower() in text.lower()
    ]
    assert leaks == []
    assert len(texts) >= 10


def test_logs_are_json_lines(stack: StackUnderTest, done: dict[str, Any]) -> None:
    for service in _SERVICES:
        lines = (stack.folder / "data" / "logs" / f"{service}.log").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        assert any(event.get("event") == "service_started" for event in events), service


def test_metrics_count_what_happened(stack: StackUnderTest, done: dict[str, Any]) -> None:
    listener = httpx.get(f"http://127.0.0.1:{stack.settings.listener.health_port}/metrics").text
    orchestrator = httpx.get(
        f"http://127.0.0.1:{stack.settings.orchestrator.health_port}/metrics"
    ).text
    reporting = httpx.get(f"http://127.0.0.1:{stack.settings.reporting.health_port}/metrics").text
    assert re.search(r'axial_instances_received_total\{outcome="stored"\} \d+', listener)
    assert re.search(r"axial_received_bytes_total [1-9]", listener)
    assert 'reason="segmented"' in orchestrator
    assert 'axial_stage_seconds_count{stage="infer"}' in orchestrator
    assert re.search(r'axial_deliveries_total\{.*outcome="delivered"\} \d+', reporting)


def test_stages_follow_one_another(done: dict[str, Any]) -> None:
    # How soon they do is a figure of the benchmarks.
    begun = {stage["stage"]: stage["started_at"] for stage in done["jobs"][0]["stages"]}
    order = [begun[name] for name in ("select", "load", "infer", "report", "deliver")]
    assert order == sorted(order)
    assert order[0] > done["revisions"][0]["frozen_at"]


def test_same_study_twice_makes_no_second_result(stack: StackUnderTest, tmp_path: Path) -> None:
    write_head(tmp_path, "twice")
    uid = study_uid("twice")
    stack.send(tmp_path)
    first = stack.wait_until_done(uid)
    stack.send(tmp_path)
    completed = stack.client.post(f"/api/v1/studies/{uid}/complete")
    assert completed["frozen_now"] is False
    second = stack.wait_until_done(uid)
    assert second["revision"] == 1
    assert second["jobs"] == first["jobs"]
    assert len(stack.in_pacs(uid, SEG)) == len(stack.in_pacs(uid, SR)) == 1


def test_two_studies_at_once_end_right(stack: StackUnderTest, tmp_path: Path) -> None:
    names = ["at once a", "at once b"]
    for name in names:
        write_head(tmp_path, name)
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda n: stack.send(tmp_path / n), names))
    assert [report.failed for report in reports] == [(), ()]
    volumes: list[float] = []
    for name in names:
        study = stack.wait_until_done(study_uid(name))
        assert [fate["reason"] for fate in study["fate"]] == ["segmented"]
        assert len(stack.in_pacs(study_uid(name), SEG)) == 1
        assert len(stack.in_pacs(study_uid(name), SR)) == 1
        volumes.append(study["jobs"][0]["measurements"][0]["value"])
    assert volumes[0] == volumes[1]


def test_late_instances_start_a_new_revision_that_supersedes_the_first(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    uid = study_uid("late")
    files = write_head(tmp_path / "all", "late")
    early = tmp_path / "early"
    early.mkdir()
    for file in files[:-6]:
        shutil.copy(file, early)
    stack.send(early)
    first = stack.wait_until_done(uid)
    stack.send(tmp_path / "all")
    second = stack.wait_until_done(uid, revision=2)
    states = {job["revision"]: (job["state"], job["reason"]) for job in second["jobs"]}
    assert states == {1: ("superseded", "newer_revision"), 2: ("processed", "segmented")}
    reports = stack.in_pacs(uid, SR)
    assert len(reports) == 2
    (old,) = [r for r in reports if r.SOPInstanceUID in _results(first)]
    (new,) = [r for r in reports if r.SOPInstanceUID not in _results(first)]
    referred = new.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert referred.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert new.SeriesInstanceUID != old.SeriesInstanceUID


def _results(study: dict[str, Any]) -> set[str]:
    return {r["sop_instance_uid"] for job in study["jobs"] for r in job["results"]}


def test_each_broken_series_is_refused_for_its_own_reason(
    stack: StackUnderTest, tmp_path: Path
) -> None:
    name = "broken"
    write_head(tmp_path, name, series="missing", number=1)[30].unlink()
    doubled = write_head(tmp_path, name, series="double", number=2)
    _moved_copy(doubled[30], doubled[40])
    mixed = write_head(tmp_path, name, series="mixed", number=3)
    _turned(mixed[-1])
    for file in write_head(
        tmp_path,
        name,
        series="scout",
        number=4,
        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        description="Localizer",
    )[3:]:
        file.unlink()
    # The last that is sent: the revision that a model wants it for holds the others too.
    write_head(tmp_path, name, series="whole", number=5)
    stack.send(tmp_path)
    study = stack.wait_until_done(study_uid(name))
    reasons = {fate["series_number"]: fate["reason"] for fate in study["fate"]}
    assert reasons == {
        "1": "missing_slice",
        "2": "duplicate_position",
        "3": "mixed_orientations",
        "4": "localizer",
        "5": "segmented",
    }
    missing = derived_uid("e2e", name, "missing")
    (told,) = stack.client.get(f"/api/v1/series/{missing}/fate")
    assert told["values"]["gap_mm"] > told["values"]["spacing_mm"]
    said = _axial(stack, "why", missing)
    assert "At least one slice is missing" in said


def _moved_copy(file: Path, onto: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.ImagePositionPatient = pydicom.dcmread(onto).ImagePositionPatient
    dataset.save_as(file)


def _turned(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.save_as(file)


def test_command_line_tells_people_and_machines(
    stack: StackUnderTest, done: dict[str, Any]
) -> None:
    uid = done["study_uid"]
    assert uid in _axial(stack, "status")
    assert json.loads(_axial(stack, "status", uid, "--json"))["state"] == "done"
    assert "segmented this series: Brain" in _axial(stack, "why", uid)
    (fate,) = json.loads(_axial(stack, "why", uid, "--json"))
    assert fate["fate"] == "processed"
    shown = json.loads(_axial(stack, "config", "show", "listener.port", "--json"))
    assert shown[0]["value"] == stack.settings.listener.port
    assert shown[0]["origin"].startswith(str(stack.settings_file))


def test_unknown_uid_is_an_error_in_one_line(stack: StackUnderTest) -> None:
    ended = _run(stack, "why", "1.2.3.4.5")
    assert ended.returncode == 1
    assert ended.stderr.strip() == "error: Neither a study nor a series 1.2.3.4.5 was received."


def _axial(stack: StackUnderTest, *arguments: str) -> str:
    ended = _run(stack, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _run(stack: StackUnderTest, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "--config", str(stack.settings_file), *arguments],
        capture_output=True,
        text=True,
        env={"COLUMNS": "300", "PATH": "/usr/bin:/bin"},
        check=False,
    )

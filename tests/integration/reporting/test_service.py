"""The reporting service as a process: calls, errors, metrics, silence about patients, stopping."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from axial.v1 import reporting_pb2

from tests.builders.malformed import malformed_values
from tests.builders.network import free_port
from tests.builders.peers import destination, scripted_peer, slowly, wait_until
from tests.builders.reporting import Workplace, blobs, series_in, workplace
from tests.builders.reporting_service import (
    ReportingProcess,
    make_request,
    release_request,
    reporting_process,
)
from tests.builders.series import PATIENT_ID, PATIENT_NAME, edit
from tests.integration.reporting.conftest import SHAPE, states

DONE = ["delivered", "delivered"]


def wait_for_metric(service: ReportingProcess, line: str) -> None:
    """Waits until a metric says so: what is done is counted a moment after it is written down."""
    wait_until(lambda: line in service.metrics(), 10, line)


def test_a_job_goes_from_labels_to_the_pacs(tmp_path: Path, place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    with (
        scripted_peer() as peer,
        reporting_process(
            tmp_path, place, [destination(peer.port)], {"AXIAL_TELEMETRY__TRACES": "file"}
        ) as service,
        service.stub() as stub,
    ):
        made = stub.MakeResults(make_request(job), timeout=30)
        assert [result.kind for result in made.results] == ["SEG", "SR"]
        (measured,) = made.measurements
        assert (measured.segment_label, measured.name, measured.unit) == ("Brain", "volume", "mL")
        voxels = int((blobs(SHAPE) == 1).sum())
        assert measured.value == pytest.approx(voxels * 2.475 / 1000, abs=1e-6)
        assert {part.stage for part in made.times} >= {"read", "encode_seg", "encode_sr", "check"}
        assert not made.HasField("withholding")
        assert stub.ReleaseResults(release_request(job), timeout=30).deliveries == 2
        wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        for line in (
            'axial_deliveries_total{destination="pacs",outcome="delivered"} 2.0',
            'axial_queue_depth{queue="delivery:pacs"} 0.0',
        ):
            wait_for_metric(service, line)
        metrics = service.metrics()
    spans = (place.store.root.parent / "traces" / "reporting.jsonl").read_text()
    log = service.log.read_text()
    for said in (log, spans, metrics):
        assert PATIENT_NAME not in said
        assert PATIENT_ID not in said
        assert job.study_uid not in said
    assert "results_registered" in log
    assert "reporting.make" in spans


@malformed_values
def test_what_libraries_complain_about_is_not_quoted_in_the_log(
    tmp_path: Path, place: Workplace
) -> None:
    """A source with invalid patient attributes, sent to a peer that has them decoded again."""
    files = series_in(tmp_path / "odd", "axial", SHAPE, seed="odd")
    for file in files:
        edit(
            file,
            PatientName="Okapi Zebra Without Any Caret",
            PatientBirthDate="31.01.1950",
            PatientID="X" * 80,
            SpecificCharacterSet="ISO_IR 192",
            PatientAge="seventy",
        )
    odd = workplace(tmp_path / "work", files)
    job = odd.job(blobs(SHAPE))
    with (
        scripted_peer(transfer_syntaxes=["1.2.840.10008.1.2"]) as peer,
        reporting_process(tmp_path, odd, [destination(peer.port)]) as service,
        service.stub() as stub,
    ):
        assert stub.MakeResults(make_request(job), timeout=30).results
        stub.ReleaseResults(release_request(job), timeout=30)
        wait_until(lambda: states(odd) == DONE, 20, "both are delivered")
    log = service.log.read_text()
    for secret in ("Okapi", "31.01.1950", "XXXX", "seventy"):
        assert secret not in log


def test_withheld_results_say_why_and_are_not_released(tmp_path: Path, place: Workplace) -> None:
    job = place.job(np.ones((3, 4, 5), np.uint8))
    with reporting_process(tmp_path, place, []) as service, service.stub() as stub:
        made = stub.MakeResults(make_request(job), timeout=30)
        assert made.withholding.reason == "geometry_mismatch"
        assert dict(made.withholding.values)["problem"].startswith("the labels have 3 x 4 x 5")
        assert not made.results
        with pytest.raises(grpc.RpcError) as refused:
            stub.ReleaseResults(release_request(job), timeout=30)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_requests_that_cannot_be_met_are_refused_with_the_reason(
    tmp_path: Path, place: Workplace
) -> None:
    job = place.job(blobs(SHAPE))
    job_uid = job.job_uid
    outputs = {
        "no labels": f"jobs/{job_uid}/other.npy.gz",
        "another job's labels": "jobs/1.2.3/labels.npy.gz",
        "an image": "studies/1.2/1.3/1.4.dcm",
        "a way out of the store": f"jobs/{job_uid}/../../x",
    }
    wrong = {
        "another model": {"model_name": "liver"},
        "another version": {"model_version": "0.9.9"},
        "no digest": {"model_digest": "../../etc"},
        "no offset": {"analysis_started": "2024-01-31T12:00:00"},
        "no time": {"analysis_started": "yesterday"},
        "no UID for the job": {"job_uid": "../1.2.3", "store_key": "jobs/../1.2.3/labels.npy.gz"},
        "no instances": {"selection": []},
    } | {name: {"store_key": key} for name, key in outputs.items()}
    with reporting_process(tmp_path, place, []) as service, service.stub() as stub:
        for name, changes in wrong.items():
            request = make_request(job)
            for field, value in changes.items():
                changed = request.outputs[0] if field == "store_key" else request
                changed.ClearField(field)  # pyright: ignore[reportArgumentType]
                if value:
                    setattr(changed, field, value)
            with pytest.raises(grpc.RpcError) as refused:
                stub.MakeResults(request, timeout=30)
            assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION, name
            assert refused.value.details(), name
        request = make_request(job)
        request.model_digest = "0" * 64
        with pytest.raises(grpc.RpcError) as refused:
            stub.MakeResults(request, timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, "it may be there later"
    with reporting_process(tmp_path, place, []) as service, service.stub("gateway") as stub:
        for request in (
            reporting_pb2.ResendRequest(),
            reporting_pb2.ResendRequest(destination="nowhere"),
            reporting_pb2.ResendRequest(delivery_uid="1.2.3"),
            reporting_pb2.ResendRequest(delivery_uid="1.2.3", destination="pacs"),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                stub.Resend(request, timeout=30)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_superseded_results_are_withdrawn_and_the_dead_are_sent_again(
    tmp_path: Path, place: Workplace
) -> None:
    first = place.job(blobs(SHAPE))
    second = replace(place.job(blobs(SHAPE), revision=2), supersedes_job_uid=first.job_uid)
    port = free_port()
    pacs = destination(port, max_attempts=2)
    with (
        reporting_process(tmp_path, place, [pacs]) as service,
        service.stub() as stub,
        service.stub("gateway") as of_gateway,
    ):
        for job in (first, second):
            stub.MakeResults(make_request(job), timeout=30)
            stub.ReleaseResults(release_request(job), timeout=30)
        spent = ["dead", "dead", "held", "held"]
        wait_until(lambda: sorted(states(place)) == spent, 20, "all attempts are spent")
        request = reporting_pb2.WithdrawResultsRequest(job_uids=[first.job_uid])
        assert stub.WithdrawResults(request, timeout=30).withdrawn == 2
        with scripted_peer(port=port) as peer:
            again = of_gateway.Resend(reporting_pb2.ResendRequest(destination="pacs"), timeout=30)
            assert again.deliveries == 2
            wait_until(lambda: states(place).count("delivered") == 2, 20, "two are delivered")
        assert len(peer.stored) == 2
        assert states(place).count("withdrawn") == 2
        for outcome in ("dead", "held"):
            wait_for_metric(service, f'outcome="{outcome}"}} 2.0')


def test_two_calls_for_one_job_at_once_make_it_once(tmp_path: Path, place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    with reporting_process(tmp_path, place, []) as service, service.stub() as stub:
        calls = [stub.MakeResults.future(make_request(job), timeout=60) for _ in range(4)]
        answers = [call.result() for call in calls]
    assert len({answer.SerializeToString() for answer in map(_without_times, answers)}) == 1
    assert service.log.read_text().count("results_registered") == 1


def test_it_stops_within_its_grace_period_and_finishes_what_is_under_way(
    tmp_path: Path, place: Workplace
) -> None:
    job = place.job(blobs(SHAPE))
    with scripted_peer([slowly(1.0)]) as peer:
        with (
            reporting_process(tmp_path, place, [destination(peer.port)]) as service,
            service.stub() as stub,
        ):
            stub.MakeResults(make_request(job), timeout=30)
            stub.ReleaseResults(release_request(job), timeout=30)
            wait_until(lambda: bool(peer.asked), 20, "the first object is under way")
            begun = time.monotonic()
            service.process.terminate()
            assert service.process.wait(20) == 0
            assert time.monotonic() - begun < 10
        assert states(place) == ["delivered", "pending"]
        assert len(peer.stored) == 1


def _without_times(answer: reporting_pb2.MakeResultsResponse) -> reporting_pb2.MakeResultsResponse:
    copy = reporting_pb2.MakeResultsResponse()
    copy.CopyFrom(answer)
    copy.ClearField("times")
    return copy

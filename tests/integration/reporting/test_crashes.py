"""Kill -9 at every named point: exactly one SEG and one SR arrive all the same."""

from __future__ import annotations

import contextlib
from pathlib import Path

import grpc
import pytest

from services.reporting.objects.naming import sop_instance_uid
from tests.builders.peers import destination, qrscp, scripted_peer, wait_until
from tests.builders.reporting import Workplace, blobs
from tests.builders.reporting_service import make_request, release_request, reporting_process
from tests.integration.reporting.conftest import SHAPE, states

DONE = ["delivered", "delivered"]
POINTS = (
    "reporting.seg.written",
    "reporting.sr.written",
    "reporting.results.registered",
    "reporting.deliveries.enqueued",
    "reporting.send.begin",
    "reporting.send.done",
)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_costs_nothing_and_doubles_nothing(
    tmp_path: Path, place: Workplace, point: str
) -> None:
    job = place.job(blobs(SHAPE))
    with scripted_peer() as peer:
        pacs = destination(peer.port)
        with reporting_process(tmp_path, place, [pacs]) as service, service.stub() as stub:
            service.crash_at(point)
            # The caller sees that the service went away, and calls again.
            with contextlib.suppress(grpc.RpcError):
                stub.MakeResults(make_request(job), timeout=30)
                stub.ReleaseResults(release_request(job), timeout=30)
            service.wait_for_death()
        with reporting_process(tmp_path, place, [pacs]) as service, service.stub() as stub:
            made = stub.MakeResults(make_request(job), timeout=30)
            assert [result.kind for result in made.results] == ["SEG", "SR"]
            assert stub.ReleaseResults(release_request(job), timeout=30).deliveries == 2
            wait_until(lambda: states(place) == DONE, 20, "both are delivered")
    expected = [sop_instance_uid(job.job_uid, kind, "") for kind in ("SEG", "SR")]
    assert set(peer.stored) == set(expected)
    # Sent twice only where the kill lay between the answer and our note of it.
    assert len(peer.stored) == (3 if point == "reporting.send.done" else 2)


def test_a_kill_after_the_pacs_answered_leaves_one_object_of_each_kind_there(
    tmp_path: Path, place: Workplace
) -> None:
    job = place.job(blobs(SHAPE))
    with qrscp(tmp_path / "pacs") as (port, instances):
        pacs = destination(port)
        with reporting_process(tmp_path, place, [pacs]) as service, service.stub() as stub:
            stub.MakeResults(make_request(job), timeout=30)
            service.crash_at("reporting.send.done")
            stub.ReleaseResults(release_request(job), timeout=30)
            service.wait_for_death()
        with reporting_process(tmp_path, place, [pacs]):
            # Nobody calls: what was under way is taken up by itself.
            wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        names = sorted(file.name for file in instances.rglob("*") if file.is_file())
    assert names == sorted(sop_instance_uid(job.job_uid, kind, "") for kind in ("SEG", "SR"))

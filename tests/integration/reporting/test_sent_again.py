"""What was delivered is sent again on request, and nothing waits for a peer that is back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from axial.v1 import reporting_pb2
from fastapi.testclient import TestClient
from sqlalchemy import update

from services.common.database import DeliveryRow, utc_now
from services.common.settings import ReportingSettings, Settings
from services.gateway import make_app
from services.reporting.delivery import DeliveryQueue, Resent, Wanted
from services.reporting.delivery.probing import Probing
from services.reporting.errors import JobError
from services.reporting.objects.naming import sop_instance_uid
from tests.builders.job_rows import write_job
from tests.builders.network import free_port
from tests.builders.peers import destination, scripted_peer, wait_until
from tests.builders.reporting import Workplace
from tests.builders.reporting_service import reporting_process
from tests.builders.trust import credentials
from tests.integration.reporting.conftest import Open, rows, states

DONE = ["delivered", "delivered"]


def uids(job_uid: str) -> list[str]:
    return [sop_instance_uid(job_uid, kind, "") for kind in ("SEG", "SR")]


@pytest.mark.parametrize("by", ["study", "destination"])
def test_all_that_was_delivered_is_sent_again_in_its_order(
    place: Workplace, job_uid: str, deliver: Open, by: str
) -> None:
    study_uid = place.headers[0].study_uid
    wanted = Wanted(study_uid=study_uid) if by == "study" else Wanted(destination="pacs")
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert deliveries.resend(wanted) == Resent(0, delivered=2)
        assert peer.stored == uids(job_uid)
        assert deliveries.resend(wanted, delivered=True) == Resent(2)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered again")
        wait_until(lambda: len(peer.stored) == 4, 10, "the peer has both again")
        assert peer.stored == 2 * uids(job_uid)
    assert [row.sent_again for row in rows(place)] == [1, 1]


def test_one_result_is_sent_again_to_one_destination(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        scripted_peer() as one,
        scripted_peer() as other,
        deliver(destination(one.port, "one"), destination(other.port, "other")) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place, "one") + states(place, "other") == 2 * DONE, 10, "all")
        report = uids(job_uid)[1]
        wanted = Wanted(sop_instance_uid=report, destination="other")
        assert deliveries.resend(wanted, delivered=True) == Resent(1)
        # The row, not the peer alone: what is still being settled is not sent again.
        wait_until(lambda: states(place, "other") == DONE, 10, "the other has it again")
        assert other.stored == [*uids(job_uid), report]
        assert one.stored == uids(job_uid)
        wanted = Wanted(sop_instance_uid=report)
        assert deliveries.resend(wanted, delivered=True) == Resent(2)
        wait_until(lambda: len(one.stored) == 3 and len(other.stored) == 4, 10, "both have it")


def test_what_is_asked_for_and_not_there_is_named(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with deliver(destination(free_port())) as deliveries:
        for wanted, words in (
            (Wanted(), "Name a study, a result, a destination or a delivery"),
            (Wanted(destination="nowhere"), "'nowhere' is no destination; known are pacs"),
            (Wanted(study_uid="1.2.3"), "There is no delivery of study 1.2.3"),
            (Wanted(sop_instance_uid="1.2", destination="pacs"), "destination pacs, result 1.2"),
        ):
            with pytest.raises(JobError, match=words):
                deliveries.resend(wanted, delivered=True)


def test_what_a_newer_result_replaces_is_not_sent_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        write_job(place.engine, job_uid, place.headers[0].study_uid, "superseded")
        wanted = Wanted(study_uid=place.headers[0].study_uid)
        assert deliveries.resend(wanted, delivered=True) == Resent(0, superseded=2)
        assert states(place) == DONE
        assert len(peer.stored) == 2


def test_what_waits_leaves_at_once_when_it_is_asked_for(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([0xA700]) as peer:
        slow = destination(peer.port, first_backoff_s=600.0, longest_backoff_s=600.0)
        with deliver(slow) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
            assert deliveries.resend(Wanted(destination="pacs")) == Resent(2)
            wait_until(lambda: states(place) == DONE, 5, "both are delivered")
            assert [row.attempts for row in rows(place)] == [1, 1]


def patient(port: int, name: str = "pacs", **changes: float) -> object:
    """Whose pauses are long already."""
    given = {"first_backoff_s": 600.0, "longest_backoff_s": 600.0, "probe_period_s": 0.3, **changes}
    return destination(port, name, **given)


def test_a_peer_that_is_back_gets_its_results_within_seconds_whatever_the_pause(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    port = free_port()
    with deliver(patient(port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
        with scripted_peer(port=port) as peer:
            back = time.monotonic()
            wait_until(lambda: states(place) == DONE, 10, "both are delivered")
            assert time.monotonic() - back < 5
            assert peer.stored == uids(job_uid)
    assert [row.attempts for row in rows(place)] == [2, 2]


def test_probes_cost_no_attempt(place: Workplace, job_uid: str, deliver: Open) -> None:
    port = free_port()
    with deliver(patient(port, probe_period_s=0.05)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
        time.sleep(0.5)  # a dozen probes of nobody
        assert [row.attempts for row in rows(place)] == [1, 1]


def test_after_a_restart_a_peer_that_is_back_is_found_too(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    port = free_port()
    with deliver(patient(port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
    with scripted_peer(port=port), deliver(patient(port)):
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")


def test_a_peer_that_answers_the_echo_and_refuses_results_uses_up_few_attempts(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    """Each answer to a probe that led to nothing doubles the wait for the next one."""
    nobody = scripted_peer(require_called_aet=True)
    with nobody as peer:
        # It rejects the association as long as it is called by a wrong title.
        wrong = patient(peer.port, probe_period_s=0.1)
        with deliver(wrong.model_copy(update={"ae_title": "WRONG"})) as deliveries:  # pyright: ignore[reportAttributeAccessIssue]
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
            time.sleep(1.0)  # probes are rejected too: none of them is an answer
            assert rows(place)[0].attempts == 1
    clock = [0.0]
    probing = Probing(5.0, 600.0, lambda: clock[0])
    answered = 0
    while clock[0] < 3600:
        clock[0] += max(0.0, probing.waits_s())
        probing.answered()
        answered += 1
        probing.not_reached()
    assert answered < 16
    probing.reached()
    assert probing.waits_s() == 5.0


def test_a_result_that_arrives_ends_the_pause_of_one_that_was_refused_for_now(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([0xA700]) as peer, deliver(patient(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
        # Another study's result, which the destination takes.
        with place.engine.begin() as connection:
            connection.execute(
                update(DeliveryRow)
                .where(DeliveryRow.sop_instance_uid == uids(job_uid)[1])
                .values(next_attempt_at=utc_now(), job_uid="1.2.3.4")
            )
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")


def test_a_result_that_is_refused_for_now_is_not_tried_after_each_that_arrives(
    place: Workplace, job_uid: str
) -> None:
    queue = DeliveryQueue(place.engine, "test")
    queue.enqueue(job_uid, [destination(104)])
    parcel = queue.claim("pacs", 60)
    assert parcel is not None
    for delivery, not_reached in zip(parcel.deliveries, (True, False), strict=True):
        queue.retry(delivery, "x", 600.0, not_reached=not_reached)
    assert queue.waits_for_reach("pacs")
    assert queue.cut_short("pacs") == 1
    assert not queue.waits_for_reach("pacs")
    assert queue.cut_short("pacs", all_of_them=True) == 1


def test_a_person_asks_the_gateway_and_the_destination_has_it_again(
    tmp_path: Path, place: Workplace, job_uid: str
) -> None:
    study_uid = place.headers[0].study_uid
    with (
        scripted_peer() as peer,
        reporting_process(tmp_path, place, [destination(peer.port)]) as service,
    ):
        with service.stub() as stub:
            stub.ReleaseResults(reporting_pb2.ReleaseResultsRequest(job_uid=job_uid), timeout=30)
        wait_until(lambda: states(place) == DONE, 20, "both are delivered")
        settings = Settings(reporting=ReportingSettings(address=service.address))
        app = make_app(settings, place.engine, credentials("gateway"))
        gateway = TestClient(app, base_url="http://127.0.0.1:8042")

        def asked(**query: object) -> Any:
            return gateway.post("/api/v1/deliveries/resend", params=query)  # pyright: ignore[reportArgumentType]

        answer = asked(study_uid=study_uid)
        assert answer.json() == {"count": 0, "delivered": 2, "superseded": 0, "held": 0}
        answer = asked(study_uid=study_uid, delivered=True)
        assert answer.json() == {"count": 2, "delivered": 0, "superseded": 0, "held": 0}
        wait_until(lambda: len(peer.stored) == 4, 20, "the peer has both again")
        wait_until(lambda: states(place) == DONE, 20, "both are delivered again")
        answer = asked(study_uid="1.2.3")
        assert (answer.status_code, answer.json()["detail"]) == (
            422,
            "There is no delivery of study 1.2.3.",
        )
        assert asked(delivered=True).status_code == 422


def test_the_attempts_of_a_default_destination_last_for_days() -> None:
    pacs = destination(104, first_backoff_s=1.0, longest_backoff_s=600.0)
    waits = [
        min(pacs.first_backoff_s * 2.0 ** min(n, 32), pacs.longest_backoff_s)
        for n in range(pacs.max_attempts - 1)
    ]
    assert sum(waits) > 3 * 86400

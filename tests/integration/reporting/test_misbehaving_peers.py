"""Destinations that are down, slow, refuse, abort or are overloaded cost no result."""

from __future__ import annotations

import time

from pynetdicom import evt
from sqlalchemy import update

from services.common.database import DeliveryRow
from services.reporting.delivery import Resent, Wanted
from services.reporting.delivery.holding import why_held
from services.reporting.objects.naming import sop_instance_uid
from tests.builders.network import free_port
from tests.builders.peers import (
    SEG,
    SR,
    abort,
    destination,
    scripted_peer,
    slowly,
    wait_until,
)
from tests.builders.reporting import Workplace, blobs
from tests.builders.stuck_port import StuckPort
from tests.integration.reporting.conftest import SHAPE, Open, rows, states

DONE = ["delivered", "delivered"]


def uids(job_uid: str) -> list[str]:
    """SEG and SR of a job in their plain form."""
    return [sop_instance_uid(job_uid, kind, "") for kind in ("SEG", "SR")]


def test_segmentation_arrives_before_the_report_in_one_association(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        assert deliveries.release(job_uid) == 2
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert peer.stored == uids(job_uid)
        assert peer.associations == 1


def test_delivery_begins_within_milliseconds_of_the_release(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    begun: list[float] = []

    def first(event: evt.Event) -> int:
        begun.append(time.monotonic())
        return 0x0000

    with scripted_peer([first]) as peer, deliver(destination(peer.port)) as deliveries:
        # The sender has looked and found nothing: it sleeps.
        wait_until(lambda: not states(place), 1, "nothing is queued")
        released = time.monotonic()
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
    assert begun[0] - released < 0.5


def test_release_twice_sends_once(place: Workplace, job_uid: str, deliver: Open) -> None:
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        assert deliveries.release(job_uid) == 2
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert deliveries.release(job_uid) == 2
        wait_until(lambda: states(place) == DONE, 10, "nothing changes")
        assert peer.asked == uids(job_uid)


def test_a_peer_that_is_down_gets_its_results_when_it_is_back(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    port = free_port()
    with deliver(destination(port, max_attempts=1000)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["waiting", "waiting"], 10, "they wait")
        assert "cannot be reached" in (rows(place)[0].last_error or "")
        with scripted_peer(port=port) as peer:
            wait_until(lambda: states(place) == DONE, 10, "both are delivered")
            assert peer.stored == uids(job_uid)


def test_a_dead_or_slow_destination_delays_no_other(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        scripted_peer() as quick,
        scripted_peer([slowly(3.0)]) as slow,
        StuckPort() as silent,
        deliver(
            destination(free_port(), "down"),
            destination(silent, "silent"),
            destination(slow.port, "slow"),
            destination(quick.port, "quick"),
        ) as deliveries,
    ):
        begun = time.monotonic()
        assert deliveries.release(job_uid) == 8
        wait_until(lambda: states(place, "quick") == DONE, 5, "the quick one has both")
        assert time.monotonic() - begun < 1.5
        assert states(place, "slow") != DONE
        wait_until(lambda: states(place, "slow") == DONE, 10, "the slow one has both")
        assert "delivered" not in states(place, "down") + states(place, "silent")


def test_out_of_resources_is_tried_again_and_the_report_waits_for_the_segmentation(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([0xA700, 0xA700]) as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        seg, sr = uids(job_uid)
        assert peer.asked == [seg, seg, seg, sr]
        assert rows(place)[0].attempts == 3


def test_an_abort_in_the_middle_is_tried_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([abort]) as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert peer.stored == uids(job_uid)
        assert peer.associations == 2


def test_no_answer_within_the_deadline_is_tried_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    hangs = slowly(1.5)
    with (
        scripted_peer([hangs]) as peer,
        deliver(destination(peer.port, response_timeout_s=0.5)) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 15, "both are delivered")
        assert rows(place)[0].attempts == 2


def test_a_rejected_association_is_tried_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer(require_called_aet=True) as peer:
        wrong = destination(peer.port, ae_title="NOTHERE", max_attempts=3)
        with deliver(wrong) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["dead", "held"], 10, "the attempts are spent")
            row = rows(place)[0]
            assert row.attempts == 3
            assert "rejected the association" in (row.last_error or "")
        # Somebody corrects the title, and sends again.
        with deliver(destination(peer.port)) as deliveries:
            assert deliveries.resend(Wanted(destination="pacs")).deliveries == 2
            wait_until(lambda: states(place) == DONE, 10, "both are delivered")
            assert peer.stored == uids(job_uid)


def test_n1_contexts_are_proposed_one_transfer_syntax_at_a_time(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        explicit, implicit = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
        assert peer.contexts == [
            (sop_class, [syntax]) for sop_class in (SEG, SR) for syntax in (explicit, implicit)
        ]


def test_n1_a_peer_without_explicit_gets_implicit(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    syntax = "1.2.840.10008.1.2"
    with (
        scripted_peer(transfer_syntaxes=[syntax]) as peer,
        deliver(destination(peer.port)) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert peer.stored == uids(job_uid)


def test_n1_a_peer_without_segmentations_does_not_get_the_report_of_one(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        scripted_peer(sop_classes=[SR]) as peer,
        deliver(destination(peer.port)) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 10, "the report is held")
        assert peer.asked == []
        segmentation, report = rows(place)
        assert segmentation.last_error == "the destination does not take this SOP class"
        assert report.last_error == why_held(["SEG"])
        assert (segmentation.attempts, report.attempts) == (1, 0)


def test_a_peer_that_wants_reports_alone_gets_them(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        scripted_peer(sop_classes=[SR]) as peer,
        deliver(destination(peer.port, kinds=("SR",))) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["delivered"], 10, "the report is delivered")
        assert peer.stored == uids(job_uid)[1:]


def test_n1_a_peer_that_refuses_every_context_is_dead_at_once_and_can_be_sent_to_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    port = free_port()
    with deliver(destination(port)) as deliveries:
        with scripted_peer(sop_classes=["1.2.840.10008.5.1.4.1.1.2"], port=port):
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["dead", "held"], 10, "one is refused")
        with scripted_peer(port=port) as peer:
            segmentation, report = rows(place)
            assert deliveries.resend(Wanted(report.delivery_uid)) == Resent(0, held=1)
            assert deliveries.resend(Wanted(segmentation.delivery_uid)).deliveries == 1
            wait_until(lambda: states(place) == DONE, 10, "the report follows by itself")
            assert peer.stored == uids(job_uid)
            assert [row.last_error for row in rows(place)] == [None, None]


def test_a_warning_is_delivered_with_a_note(place: Workplace, job_uid: str, deliver: Open) -> None:
    with scripted_peer([0xB000]) as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert "0xB000" in (rows(place)[0].last_error or "")
        assert rows(place)[1].last_error is None


def test_a_refusal_for_good_is_dead_and_holds_the_report_back(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([0xA900]) as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 10, "the report is held")
        assert "0xA900" in (rows(place)[0].last_error or "")
        assert peer.asked == uids(job_uid)[:1]


def test_a_file_that_changed_after_its_checks_does_not_leave(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    file = next(place.store.root.glob("jobs/*/seg.dcm"))
    file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 10, "the report is held")
        assert peer.asked == []


def test_a_destination_gets_the_kinds_that_it_wants(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with (
        scripted_peer() as peer,
        deliver(destination(peer.port, kinds=("SR",))) as deliveries,
    ):
        assert deliveries.release(job_uid) == 1
        wait_until(lambda: states(place) == ["delivered"], 10, "the report is delivered")
        assert peer.stored == uids(job_uid)[1:]


def test_a_destination_gets_the_form_that_it_wants(place: Workplace, deliver: Open) -> None:
    with scripted_peer() as viewer, scripted_peer() as archive:
        destinations = (
            destination(viewer.port, "viewer", keep_empty_frames=True, key_slice_regions=True),
            destination(archive.port, "archive"),
        )
        job = place.job(blobs(SHAPE))
        made = place.make(job, destinations=destinations)
        assert {result.form for result in made.results} == {
            "",
            "keep_empty_frames",
            "keep_empty_frames+key_slice",
        }
        with deliver(*destinations) as deliveries:
            assert deliveries.release(job.job_uid) == 4
            wait_until(lambda: states(place, "viewer") == DONE, 10, "the viewer has both")
            wait_until(lambda: states(place, "archive") == DONE, 10, "the archive has both")
        assert archive.stored == uids(job.job_uid)
        assert viewer.stored == [
            sop_instance_uid(job.job_uid, "SEG", "keep_empty_frames"),
            sop_instance_uid(job.job_uid, "SR", "keep_empty_frames+key_slice"),
        ]


def test_a_destination_configured_later_gets_the_plain_form_of_both(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    """The report goes with the segmentation that it names."""
    with scripted_peer() as peer, deliver(destination(peer.port, key_slice_regions=True)) as d:
        d.release(job_uid)
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert peer.stored == uids(job_uid)


def test_stopping_lets_the_object_under_way_arrive_and_keeps_the_rest(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with scripted_peer([slowly(1.0)]) as peer:
        with deliver(destination(peer.port)) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: bool(peer.asked), 10, "the first object is under way")
        assert states(place) == ["delivered", "pending"]
        with deliver(destination(peer.port)):
            wait_until(lambda: states(place) == DONE, 10, "the rest is delivered")
        assert peer.stored == uids(job_uid)


def test_what_a_killed_sender_held_is_put_back_at_its_start(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with deliver(destination(free_port(), max_attempts=1000)) as deliveries:
        deliveries.release(job_uid)
    with place.engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(state="sending", sender="test"))
    with scripted_peer() as peer, deliver(destination(peer.port)):
        wait_until(lambda: states(place) == DONE, 10, "both are delivered")
        assert peer.stored == uids(job_uid)

"""The delivery queue on both databases: one sender gets a row, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy import update

from services.common.database import DeliveryRow, utc_now
from services.common.lifecycle import DELIVERY_TRANSITIONS, DeliveryState
from services.reporting.delivery import DeliveryQueue, Parcel, Resent, Wanted
from services.reporting.errors import JobError
from tests.builders.job_rows import write_job
from tests.builders.peers import destination
from tests.builders.reporting import Workplace, series_in, workplace
from tests.integration.reporting.conftest import SHAPE, rows, states

PACS = destination(104)
OTHER = destination(104, "other")


@pytest.fixture
def place(tmp_path: Path, database_url: str) -> Generator[Workplace]:
    """A registered series, once on each engine."""
    made = workplace(tmp_path, series_in(tmp_path / "series", "axial", SHAPE), database_url)
    yield made
    made.engine.dispose()


@pytest.fixture
def queue(place: Workplace) -> DeliveryQueue:
    """The queue as one sender sees it."""
    return DeliveryQueue(place.engine, "one")


def claimed(queue: DeliveryQueue, name: str = "pacs") -> Parcel:
    """The next parcel; there has to be one."""
    parcel = queue.claim(name, 60)
    assert parcel is not None
    return parcel


def test_enqueueing_twice_is_enqueueing_once(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    assert queue.enqueue(job_uid, [PACS, OTHER]) == 4
    assert queue.enqueue(job_uid, [PACS, OTHER]) == 4
    assert states(place) == states(place, "other") == ["pending", "pending"]


def test_a_destination_added_later_gets_only_its_own(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    queue.delivered(claimed(queue).deliveries[0], None)
    assert queue.enqueue(job_uid, [PACS, OTHER]) == 4
    assert states(place) == ["delivered", "sending"]
    assert states(place, "other") == ["pending", "pending"]


def test_a_job_without_results_cannot_be_released(queue: DeliveryQueue) -> None:
    with pytest.raises(JobError, match="make them first"):
        queue.enqueue("1.2.3", [PACS])


def test_a_parcel_is_a_jobs_objects_in_order(job_uid: str, queue: DeliveryQueue) -> None:
    queue.enqueue(job_uid, [PACS])
    parcel = claimed(queue)
    assert [delivery.kind for delivery in parcel.deliveries] == ["SEG", "SR"]
    assert queue.claim("pacs", 60) is None


def test_of_many_senders_one_gets_the_parcel(place: Workplace, job_uid: str) -> None:
    queues = [DeliveryQueue(place.engine, f"sender {n}") for n in range(6)]
    queues[0].enqueue(job_uid, [PACS])
    together = threading.Barrier(len(queues))
    got: list[Parcel] = []

    def claim(queue: DeliveryQueue) -> None:
        together.wait()
        parcel = queue.claim("pacs", 60)
        if parcel is not None:
            got.append(parcel)

    threads = [threading.Thread(target=claim, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [len(parcel.deliveries) for parcel in got] == [2]


def test_what_waits_is_not_due_before_its_time(job_uid: str, queue: DeliveryQueue) -> None:
    queue.enqueue(job_uid, [PACS])
    for delivery in claimed(queue).deliveries:
        assert queue.retry(delivery, "down", 3600)
    assert queue.claim("pacs", 60) is None
    due = queue.next_due("pacs")
    assert due is not None
    assert 3500 < (due - utc_now()).total_seconds() < 3700


def test_a_report_that_is_due_is_claimed_with_its_segmentation(
    job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    segmentation, report = claimed(queue).deliveries
    queue.retry(segmentation, "down", 3600)
    queue.retry(report, "down", 0)
    assert [delivery.kind for delivery in claimed(queue).deliveries] == ["SEG", "SR"]


def test_a_lapsed_lease_is_claimed_anew_and_the_late_sender_changes_nothing(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    late = queue.claim("pacs", -1)
    assert late is not None
    due = queue.next_due("pacs")
    assert due is not None
    assert due < utc_now()
    second = DeliveryQueue(place.engine, "two")
    adopted = claimed(second)
    assert [delivery.attempts for delivery in adopted.deliveries] == [2, 2]
    assert not queue.delivered(late.deliveries[0], None)
    assert not queue.prolong(late.deliveries, 60)
    assert second.delivered(adopted.deliveries[0], None)
    assert states(place) == ["delivered", "sending"]


def test_the_whole_parcel_is_held_while_its_first_object_is_under_way(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    parcel = queue.claim("pacs", -1)
    assert parcel is not None
    assert queue.prolong(parcel.deliveries, 60)
    assert DeliveryQueue(place.engine, "two").claim("pacs", 60) is None
    assert states(place) == ["sending", "sending"]


def test_a_parcel_of_which_another_has_a_part_is_not_held(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    parcel = claimed(queue)
    with place.engine.begin() as connection:
        mine = DeliveryRow.delivery_uid == parcel.deliveries[0].delivery_uid
        connection.execute(update(DeliveryRow).where(mine).values(sender="two"))
    assert not queue.prolong(parcel.deliveries, 60)


def test_a_report_does_not_pass_the_segmentation_that_another_sends(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    segmentation, report = claimed(queue).deliveries
    assert queue.put_back(report)
    second = DeliveryQueue(place.engine, "two")
    assert second.claim("pacs", 60) is None
    due = second.next_due("pacs")  # when the other's lease lapses, not now
    assert due is not None
    assert due > utc_now()
    assert queue.delivered(segmentation, None)
    assert [delivery.kind for delivery in claimed(second).deliveries] == ["SR"]


def test_a_restarted_sender_puts_back_its_own_and_leaves_the_others(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS, OTHER])
    claimed(queue)
    claimed(DeliveryQueue(place.engine, "two"), "other")
    assert DeliveryQueue(place.engine, "one").put_back_own() == 2
    assert states(place) == ["pending", "pending"]
    assert states(place, "other") == ["sending", "sending"]


def test_withdrawn_is_what_has_not_left(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    segmentation, report = claimed(queue).deliveries
    queue.delivered(segmentation, None)
    queue.retry(report, "down", 0)
    assert queue.withdraw([job_uid], [PACS]) == 1
    assert states(place) == ["delivered", "withdrawn"]
    assert queue.withdraw([job_uid], [PACS]) == 0


def test_a_release_that_comes_after_the_withdrawal_sends_nothing(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    assert queue.withdraw([job_uid], [PACS]) == 2
    queue.enqueue(job_uid, [PACS])
    assert states(place) == ["withdrawn", "withdrawn"]
    assert queue.claim("pacs", 60) is None


def test_results_of_a_superseded_job_do_not_leave(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    """A failed attempt was under way while its job was superseded: it is not made again."""
    write_job(place.engine, job_uid, place.headers[0].study_uid, "superseded")
    queue.enqueue(job_uid, [PACS])
    assert queue.claim("pacs", 60) is None
    assert states(place) == ["withdrawn", "withdrawn"]


def test_the_dead_are_sent_again_with_all_their_attempts(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    segmentation, report = claimed(queue).deliveries
    queue.dead(report, "not authorized")
    queue.dead(segmentation, "not authorized")
    assert states(place) == ["dead", "dead"]
    assert queue.next_due("pacs") is None
    assert queue.resend(Wanted(destination="pacs")).deliveries == 2
    assert [row.attempts for row in rows(place)] == [0, 0]
    assert len(claimed(queue).deliveries) == 2
    with pytest.raises(JobError, match="no delivery"):
        queue.resend(Wanted(delivery_uid="1.2.3"))


def test_what_refers_to_a_dead_delivery_is_held_until_that_is_delivered(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS, OTHER])
    segmentation, _ = claimed(queue).deliveries
    queue.dead(segmentation, "not authorized")
    assert states(place) == ["dead", "held"]
    assert states(place, "other") == ["pending", "pending"], "another destination is not concerned"
    assert [row.attempts for row in rows(place)] == [1, 0]
    assert queue.next_due("pacs") is None
    assert queue.claim("pacs", 60) is None
    assert queue.resend(Wanted(delivery_uid=segmentation.delivery_uid)) == Resent(1)
    (again,) = claimed(queue).deliveries
    assert again.kind == "SEG"
    queue.delivered(again, None)
    assert states(place) == ["delivered", "pending"]
    assert claimed(queue).deliveries[0].kind == "SR"


def test_what_is_held_leaves_again_together_with_what_it_refers_to(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    queue.dead(claimed(queue).deliveries[0], "not authorized")
    assert queue.resend(Wanted(destination="pacs")) == Resent(2)
    assert [delivery.kind for delivery in claimed(queue).deliveries] == ["SEG", "SR"]


def test_a_report_that_waits_is_held_back_by_a_segmentation_that_died_before_this_version(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    with place.engine.begin() as connection:
        connection.execute(
            update(DeliveryRow).where(DeliveryRow.sequence == 0).values(state="dead")
        )
    assert queue.claim("pacs", 60) is None
    assert states(place) == ["dead", "held"]


def test_what_is_held_is_withdrawn_with_its_job(
    place: Workplace, job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS])
    queue.dead(claimed(queue).deliveries[0], "not authorized")
    assert queue.withdraw([job_uid], [PACS]) == 2
    assert states(place) == ["withdrawn", "withdrawn"]


def test_depth_counts_what_has_not_ended(job_uid: str, queue: DeliveryQueue) -> None:
    queue.enqueue(job_uid, [PACS])
    assert queue.depth("pacs") == 2
    segmentation, report = claimed(queue).deliveries
    queue.delivered(segmentation, None)
    assert queue.depth("pacs") == 1
    queue.put_back(report)
    assert queue.depth("pacs") == 1


def test_deliveries_to_a_destination_that_is_gone_are_known(
    job_uid: str, queue: DeliveryQueue
) -> None:
    queue.enqueue(job_uid, [PACS, OTHER])
    assert queue.unknown_destinations(["other"]) == {"pacs": 2}


@pytest.mark.parametrize("state", list(DeliveryState))
def test_only_allowed_changes_happen(
    place: Workplace, job_uid: str, queue: DeliveryQueue, state: DeliveryState
) -> None:
    """From every state, every operation leaves the row where it is or where the table allows."""
    queue.enqueue(job_uid, [PACS])
    delivery = claimed(queue).deliveries[0]
    operations = [
        lambda: queue.delivered(delivery, None),
        lambda: queue.retry(delivery, "x", 0),
        lambda: queue.dead(delivery, "x"),
        lambda: queue.put_back(delivery),
        lambda: queue.withdraw([job_uid], [PACS]),
        lambda: queue.resend(Wanted(destination="pacs")),
        lambda: queue.resend(Wanted(destination="pacs"), delivered=True),
        lambda: queue.cut_short("pacs", all_of_them=True),
        lambda: queue.claim("pacs", 60),
        lambda: queue.put_back_own(),
    ]
    for operation in operations:
        with place.engine.begin() as connection:
            connection.execute(update(DeliveryRow).values(state=state.value, sender="one"))
        operation()
        for after in states(place):
            assert after == state or DeliveryState(after) in DELIVERY_TRANSITIONS[state]

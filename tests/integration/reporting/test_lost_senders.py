"""A sender whose thread has ended is told, so that its process is replaced."""

from __future__ import annotations

import datetime as dt

import pytest

from services.common.settings import Settings
from services.reporting.delivery import DeliveryQueue
from services.reporting.service import Reporting
from tests.builders.network import free_port
from tests.builders.peers import destination, scripted_peer, wait_until
from tests.builders.reporting import Workplace
from tests.integration.reporting.conftest import Open, states


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_ended_is_told_and_the_others_go_on(
    place: Workplace, job_uid: str, deliver: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no handler catches ends a thread: the process must not look sound without it."""
    next_due = DeliveryQueue.next_due

    def ends_one(queue: DeliveryQueue, name: str) -> dt.datetime | None:
        if name == "lost":
            raise SystemExit
        return next_due(queue, name)

    monkeypatch.setattr(DeliveryQueue, "next_due", ends_one)
    with (
        scripted_peer() as peer,
        deliver(destination(peer.port), destination(peer.port, "lost")) as deliveries,
    ):
        reporting = Reporting(Settings(), deliveries, place.engine)
        wait_until(lambda: bool(reporting.dead()), 10, "it is told")
        assert reporting.dead() == "The sender to lost has stopped."
        assert "The sender to lost has stopped." in reporting.problems()
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["delivered"] * 2, 10, "the other one delivers")


def test_while_every_sender_lives_nothing_is_dead(place: Workplace, deliver: Open) -> None:
    with deliver(destination(free_port())) as deliveries:
        assert Reporting(Settings(), deliveries, place.engine).dead() is None

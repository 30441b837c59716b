"""A frozen revision is announced until the orchestrator has confirmed it, also after a restart."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import Engine, select
from structlog.testing import capture_logs

from services.common.database import RevisionRow, utc_now
from services.common.store import StudyStore
from services.listener.assembling.announce import Announcer
from services.listener.assembling.assembly import Assembly
from services.listener.assembling.revisions import Trigger, freeze_revision, unannounced_revisions
from tests.builders.network import free_port
from tests.builders.orchestrator_peer import orchestrator_peer
from tests.builders.peers import wait_until
from tests.builders.reception import offer
from tests.builders.series import sound_series
from tests.builders.trust import to_orchestrator
from tests.integration.listener.conftest import Receiving


@pytest.fixture
def frozen(engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving) -> str:
    """The UID of a study whose first revision is frozen and not announced."""
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    reception.receive(offer(sound_series(tmp_path / "dicom")[0]))
    assembly = Assembly(engine, lambda _uid, _number: None)
    assert assembly.freeze(stored[0], Trigger.TOLD) is not None
    return stored[0]


def states(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.execute(select(RevisionRow.state)).scalars())


def wait_announced(engine: Engine) -> None:
    deadline = time.monotonic() + 20
    while unannounced_revisions(engine):
        assert time.monotonic() < deadline, "the confirmation was not noted"
        time.sleep(0.005)


def test_what_was_frozen_before_a_restart_is_announced_at_the_start(
    engine: Engine, frozen: str
) -> None:
    with orchestrator_peer() as (peer, address), Announcer(engine, to_orchestrator(address)):
        assert peer.wait_for(1) == [(frozen, 1)]
        wait_announced(engine)
    assert states(engine) == ["announced"]
    with orchestrator_peer() as (peer, address), Announcer(engine, to_orchestrator(address)):
        pass
    assert peer.announced == []


def test_announcing_goes_on_until_the_orchestrator_is_up(engine: Engine, frozen: str) -> None:
    port = free_port()
    with capture_logs() as logged, Announcer(engine, to_orchestrator(f"127.0.0.1:{port}")):
        wait_until(
            lambda: any(line["event"] == "revision_not_announced" for line in logged),
            20,
            "an attempt fails",
        )
        assert states(engine) == ["frozen"]
        with orchestrator_peer(f"127.0.0.1:{port}") as (peer, _):
            assert peer.wait_for(1) == [(frozen, 1)]
            wait_announced(engine)


def test_a_refusing_orchestrator_is_asked_again(engine: Engine, frozen: str) -> None:
    with (
        orchestrator_peer(refusals=4) as (peer, address),
        Announcer(engine, to_orchestrator(address)),
    ):
        assert peer.wait_for(1) == [(frozen, 1)]
        assert peer.refusals_left == 0
        wait_announced(engine)


def test_announcing_lasts_milliseconds_when_the_orchestrator_is_there(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    offers = [offer(file) for file in sound_series(tmp_path / "dicom")]
    with (
        orchestrator_peer() as (peer, address),
        Announcer(engine, to_orchestrator(address)) as announcer,
        Assembly(engine, announcer.announce) as assembly,
    ):
        seconds: list[float] = []
        for number, offered in enumerate(offers, start=1):
            reception.receive(offered)
            begun = time.monotonic()
            assembly.freeze(stored[0], Trigger.TOLD)
            peer.wait_for(number)
            seconds.append(time.monotonic() - begun)
    # The best of seven: a busy machine delays some, a poll would delay all.
    assert min(seconds) < 0.05


def test_leaving_does_not_wait_for_an_orchestrator_that_is_away(
    engine: Engine, frozen: str
) -> None:
    with Announcer(engine, to_orchestrator(f"127.0.0.1:{free_port()}")):
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    assert unannounced_revisions(engine) == [(frozen, 1)]


def test_a_revision_that_nobody_announces_is_adopted(
    engine: Engine, store: StudyStore, tmp_path: Path, receiving: Receiving
) -> None:
    stored: list[str] = []
    reception = receiving(engine, store, stored.append)
    reception.receive(offer(sound_series(tmp_path / "dicom")[0]))
    with (
        orchestrator_peer() as (peer, address),
        Announcer(engine, to_orchestrator(address), adopt_every_s=0.01),
    ):
        # The answer to the commit was lost, or its listener died.
        assert freeze_revision(engine, stored[0], Trigger.TOLD, utc_now()) is not None
        assert peer.wait_for(1) == [(stored[0], 1)]
        wait_announced(engine)


def test_a_revision_that_is_being_announced_keeps_its_pause(engine: Engine, frozen: str) -> None:
    with orchestrator_peer() as (_, address):
        announcer = Announcer(engine, to_orchestrator(address))  # its thread does not run
        assert announcer.adopt() == [(frozen, 1)]
        assert announcer.adopt() == []

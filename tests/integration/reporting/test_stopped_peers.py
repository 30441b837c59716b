"""A destination that stops reading in the middle of an object costs that attempt, nothing more."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import pydicom
from sqlalchemy import update

from services.common.database import ResultRow
from services.common.identity import sha256_hex
from tests.builders.peers import destination, scripted_peer, wait_until
from tests.builders.reporting import Workplace
from tests.builders.stopping_peer import stopping_peer
from tests.builders.stuck_port import StuckPort
from tests.integration.reporting.conftest import Open, rows, states

DONE = ["delivered", "delivered"]
# More than the kernel buffers of both ends of a connection hold together.
LARGE_BYTES = 32 * 2**20


def test_a_peer_that_stops_reading_ends_the_attempt_and_delays_no_other(
    tmp_path: Path, place: Workplace, job_uid: str, deliver: Open
) -> None:
    _enlarge_segmentation(place)
    with (
        stopping_peer(tmp_path / "peer.log") as stuck,
        scripted_peer() as quick,
        deliver(
            destination(stuck.port, "stuck", response_timeout_s=1.5, first_backoff_s=1.0),
            destination(quick.port, "quick"),
        ) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: stuck.stopped, 10, "the peer has stopped")
        begun = time.monotonic()
        wait_until(lambda: states(place, "quick") == DONE, 3, "the other destination has both")
        wait_until(lambda: states(place, "stuck") == ["waiting"] * 2, 5, "the attempt has ended")
        assert time.monotonic() - begun < 4
        assert "did not answer within 1.5 s" in (rows(place, "stuck")[0].last_error or "")
        stuck.go_on()
        wait_until(lambda: states(place, "stuck") == DONE, 15, "the same thread delivers both")


def test_a_peer_that_stops_in_the_middle_of_its_answer_is_tried_again(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    first_half = struct.pack(">BBL", 2, 0, 200) + bytes(50)  # of an A-ASSOCIATE-AC
    with StuckPort(first_half) as port:
        pacs = destination(port, connect_timeout_s=0.5, max_attempts=2)
        with deliver(pacs) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["dead", "held"], 10, "both attempts have ended")
            assert "did not answer" in (rows(place)[0].last_error or "")


def test_stopping_does_not_wait_for_a_peer_that_has_stopped(
    tmp_path: Path, place: Workplace, job_uid: str, deliver: Open
) -> None:
    _enlarge_segmentation(place)
    with stopping_peer(tmp_path / "peer.log") as stuck:
        with deliver(destination(stuck.port, response_timeout_s=60.0), grace_s=0.5) as deliveries:
            deliveries.release(job_uid)
            wait_until(lambda: stuck.stopped, 10, "the peer has stopped")
            begun = time.monotonic()
        assert time.monotonic() - begun < 3
        assert states(place) == ["waiting", "waiting"]


def _enlarge_segmentation(place: Workplace) -> None:
    """The registered SEG becomes an object that does not fit into socket buffers."""
    file = next(place.store.root.glob("jobs/*/seg.dcm"))
    dataset = pydicom.dcmread(file)
    dataset.add_new(0xFFFCFFFC, "OB", bytes(LARGE_BYTES))
    dataset.save_as(file)
    with place.engine.begin() as connection:
        connection.execute(
            update(ResultRow)
            .where(ResultRow.kind == "SEG")
            .values(digest=sha256_hex(file.read_bytes()))
        )

"""What cannot be sent has an end: nothing is tried for ever, whatever was raised."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from axial.v1 import reporting_pb2
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from sqlalchemy import update

from services.common.database import DeliveryRow, ResultRow
from services.common.identity import sha256_hex
from services.common.store import StudyStore
from services.reporting.delivery import DeliveryQueue
from tests.builders.network import free_port
from tests.builders.peers import destination, scripted_peer, wait_until
from tests.builders.reporting import Workplace
from tests.builders.reporting_service import reporting_process
from tests.integration.reporting.conftest import Open, rows, states

IMPLICIT = "1.2.840.10008.1.2"
SECRET = b"Okapi7"


def test_an_object_that_an_implicit_peer_cannot_get_is_dead_and_holds_the_report_back(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    _replace_segmentation(place, _with_a_number_of_six_bytes(place))
    with (
        scripted_peer(transfer_syntaxes=[IMPLICIT]) as peer,
        deliver(destination(peer.port)) as deliveries,
    ):
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 10, "the report is held")
        assert peer.stored == []
    assert rows(place)[0].last_error == (
        "it cannot be written in a transfer syntax that is taken: "
        "one of its elements does not hold what its VR says"
    )
    assert rows(place)[0].attempts == 1


def test_a_registered_file_that_is_no_dicom_is_dead(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    _replace_segmentation(place, b"Okapi" * 100)
    with scripted_peer() as peer, deliver(destination(peer.port)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 10, "the report is held")
    assert rows(place)[0].last_error == "the file is no DICOM file"


def test_what_a_library_says_of_an_object_it_cannot_encode_is_not_in_the_log(
    tmp_path: Path, place: Workplace, job_uid: str
) -> None:
    _replace_segmentation(place, _with_a_number_of_six_bytes(place))
    with (
        scripted_peer(transfer_syntaxes=[IMPLICIT]) as peer,
        reporting_process(tmp_path, place, [destination(peer.port)]) as service,
        service.stub() as stub,
    ):
        request = reporting_pb2.ReleaseResultsRequest(job_uid=job_uid)
        stub.ReleaseResults(request, timeout=30)
        wait_until(lambda: states(place) == ["dead", "held"], 20, "the report is held")
    assert SECRET.decode() not in service.log.read_text()


def test_a_name_that_nobody_knows_is_tried_again_and_then_dead(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    with deliver(destination(104, host="no-such-host.invalid", max_attempts=2)) as deliveries:
        deliveries.release(job_uid)
        wait_until(lambda: states(place) == ["dead", "held"], 20, "the attempts are spent")
    row = rows(place)[0]
    assert row.attempts == 2
    assert "cannot be reached: " in (row.last_error or "")


def test_what_nobody_planned_is_an_attempt_too(
    place: Workplace, job_uid: str, deliver: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_store: StudyStore, keys: list[str]) -> Path:
        raise LookupError(SECRET)

    with scripted_peer() as peer:
        pacs = destination(peer.port, max_attempts=2)
        with deliver(pacs) as deliveries:
            monkeypatch.setattr(StudyStore, "local", broken)
            deliveries.release(job_uid)
            wait_until(lambda: states(place) == ["dead", "held"], 20, "the attempts are spent")
    assert rows(place)[0].last_error == (
        "sending broke off for a reason that nobody foresaw; the log has it"
    )


@pytest.mark.parametrize("state", ["pending", "waiting"])
def test_attempts_that_ended_without_a_word_are_counted(
    place: Workplace, job_uid: str, deliver: Open, state: str
) -> None:
    """A process that dies in every attempt leaves no other trace."""
    DeliveryQueue(place.engine, "test").enqueue(job_uid, [destination(104)])
    with place.engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(state=state, attempts=12))
    with scripted_peer() as peer, deliver(destination(peer.port, max_attempts=12)):
        wait_until(lambda: states(place) == ["dead", "held"], 10, "they are given up")
        assert peer.associations == 0
    assert rows(place)[0].attempts == 12
    assert rows(place)[0].last_error == "its attempts ended without a word"


def test_with_its_last_attempt_left_it_is_tried(
    place: Workplace, job_uid: str, deliver: Open
) -> None:
    DeliveryQueue(place.engine, "test").enqueue(job_uid, [destination(free_port())])
    with place.engine.begin() as connection:
        connection.execute(update(DeliveryRow).values(attempts=11))
    with scripted_peer() as peer, deliver(destination(peer.port, max_attempts=12)):
        wait_until(lambda: states(place) == ["delivered"] * 2, 10, "both are delivered")


def _with_a_number_of_six_bytes(place: Workplace) -> bytes:
    """Explicit bytes are passed on as they are; for implicit ones they have to be understood."""
    file = _segmentation(place)
    dataset = pydicom.dcmread(file)
    tag = Tag(0x0018, 0x9087)
    dataset[tag] = RawDataElement(tag, "FD", len(SECRET), SECRET, 0, False, True)
    dataset.save_as(file)
    return file.read_bytes()


def _segmentation(place: Workplace) -> Path:
    return next(place.store.root.glob("jobs/*/seg.dcm"))


def _replace_segmentation(place: Workplace, content: bytes) -> None:
    """Something else than what was checked, with its digest: a fault nobody foresaw."""
    _segmentation(place).write_bytes(content)
    with place.engine.begin() as connection:
        connection.execute(
            update(ResultRow).where(ResultRow.kind == "SEG").values(digest=sha256_hex(content))
        )

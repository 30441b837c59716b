"""What will not reach a destination by itself is said in sentences."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from services.gateway.undelivered import undelivered
from services.reporting.delivery import DeliveryQueue
from tests.builders.peers import destination
from tests.builders.reporting import Workplace, blobs, series_in, workplace

SHAPE = (7, 12, 10)


@pytest.fixture
def place(tmp_path: Path) -> Generator[Workplace]:
    """A registered axial series."""
    made = workplace(tmp_path, series_in(tmp_path / "series", "axial", SHAPE))
    yield made
    made.engine.dispose()


def test_a_refused_segmentation_and_the_report_that_it_holds_back_are_told(
    place: Workplace,
) -> None:
    job = place.job(blobs(SHAPE))
    place.make(job, check_with_dciodvfy=False)
    queue = DeliveryQueue(place.engine, "test")
    queue.enqueue(job.job_uid, [destination(104)])
    with Session(place.engine) as session:
        assert undelivered(session, [job.job_uid]) == {}
    parcel = queue.claim("pacs", 60)
    assert parcel is not None
    queue.dead(parcel.deliveries[0], "status 0x0124: not authorized")
    with Session(place.engine) as session:
        assert undelivered(session, [job.job_uid, "1.2"])[job.job_uid] == [
            "SEG for pacs is dead: status 0x0124: not authorized.",
            "SR for pacs is held: the destination does not have the SEG that it refers to.",
        ]

"""A job's registered results, ready to be delivered."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import DeliveryRow
from services.common.settings import Destination, ReportingSettings
from services.reporting.delivery import open_deliveries
from tests.builders.reporting import Workplace, blobs, series_in, workplace

SHAPE = (7, 12, 10)


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Workplace]:
    """A registered series in an empty database (SQLite unless a test asks for another)."""
    url = getattr(request, "param", "")
    made = workplace(tmp_path, series_in(tmp_path / "series", "axial", SHAPE), url)
    yield made
    made.engine.dispose()


@pytest.fixture
def job_uid(place: Workplace) -> str:
    """A job with its results made."""
    job = place.job(blobs(SHAPE))
    assert len(place.make(job, check_with_dciodvfy=False).results) == 2
    return job.job_uid


Open = Callable[..., Any]


@pytest.fixture
def deliver(place: Workplace) -> Open:
    """Opens deliveries to destinations: ``with deliver(one, other) as deliveries``."""

    def opened(*destinations: Destination, sender_id: str = "test", grace_s: float = 5.0) -> Any:
        settings = ReportingSettings(destinations=destinations, sender_id=sender_id)
        return open_deliveries(place.engine, place.store, settings, grace_s=grace_s)

    return opened


def rows(place: Workplace, destination: str = "pacs") -> list[DeliveryRow]:
    """The deliveries to a destination, in the order of sending."""
    with Session(place.engine) as session:
        return list(
            session.scalars(
                select(DeliveryRow)
                .where(DeliveryRow.destination == destination)
                .order_by(DeliveryRow.created_at, DeliveryRow.sequence)
            )
        )


def states(place: Workplace, destination: str = "pacs") -> list[str]:
    """Their states."""
    return [row.state for row in rows(place, destination)]

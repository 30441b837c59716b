"""A new report names the report that it replaces, if that has left."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from sqlalchemy.orm import Session

from services.common.database import DeliveryRow, JobRow, ResultRow, utc_now
from services.reporting.results import Result
from tests.builders.reporting import Workplace, blobs, series_in, workplace

SHAPE = (7, 12, 10)


@pytest.fixture
def place(tmp_path: Path) -> Generator[Workplace]:
    """A registered axial series."""
    made = workplace(tmp_path, series_in(tmp_path / "series", "axial", SHAPE))
    yield made
    made.engine.dispose()


@pytest.mark.parametrize("state", ["delivered", "sending"])
def test_s24_a_new_revision_names_the_report_that_it_replaces(place: Workplace, state: str) -> None:
    first = made(place, 1, sent=state)
    assert named(place, made(place, 2, supersedes=first)) == report(first).sop_instance_uid


@pytest.mark.parametrize("state", ["pending", "waiting", "dead", "withdrawn", None])
def test_s24_a_report_that_never_left_is_no_predecessor(
    place: Workplace, state: str | None
) -> None:
    first = made(place, 1, sent=state)
    assert named(place, made(place, 2, supersedes=first)) is None


def test_s24_one_destination_that_has_it_is_enough(place: Workplace) -> None:
    first = made(place, 1, sent="withdrawn")
    deliver(place, report(first), "delivered", destination="archive")
    assert named(place, made(place, 2, supersedes=first)) == report(first).sop_instance_uid


def test_s24_a_report_that_never_left_is_passed_over_for_the_one_before(place: Workplace) -> None:
    first = made(place, 1, sent="delivered")
    second = made(place, 2, supersedes=first, sent="withdrawn")
    third = made(place, 3, supersedes=second)
    assert named(place, third) == report(first).sop_instance_uid


def test_s24_the_form_that_left_is_named(place: Workplace) -> None:
    viewer = {
        "name": "viewer",
        "ae_title": "VIEWER",
        "host": "viewer",
        "port": 104,
        "key_slice_regions": True,
    }
    first = made(place, 1, destinations=(viewer,))
    other = next(each for each in first if each.kind == "SR" and each.form)
    deliver(place, other, "delivered")
    assert named(place, made(place, 2, supersedes=first)) == other.sop_instance_uid


def made(
    place: Workplace,
    revision: int,
    supersedes: tuple[Result, ...] = (),
    sent: str | None = None,
    **settings: Any,
) -> tuple[Result, ...]:
    """The results of a job that the orchestrator has written down."""
    before = job_uid_of(place, supersedes)
    job = replace(place.job(blobs(SHAPE), revision=revision), supersedes_job_uid=before)
    with Session(place.engine) as session, session.begin():
        session.add(
            JobRow(
                job_uid=job.job_uid,
                study_uid=job.study_uid,
                revision=job.revision,
                model_name=job.manifest.name,
                model_version=job.manifest.version,
                model_digest=job.model_digest,
                selection_digest="0" * 64,
                state="inferred",
                supersedes_job_uid=before or None,
                created_at=utc_now(),
            )
        )
    results = place.make(job, check_with_dciodvfy=False, **settings).results
    if sent is not None:
        deliver(place, report(results), sent)
    return results


def job_uid_of(place: Workplace, results: tuple[Result, ...]) -> str:
    """The job of results; empty for none."""
    if not results:
        return ""
    with Session(place.engine) as session:
        row = session.get(ResultRow, results[0].sop_instance_uid)
        assert row is not None
        return row.job_uid


def deliver(place: Workplace, result: Result, state: str, destination: str = "pacs") -> None:
    """A delivery of the result in the state."""
    with Session(place.engine) as session, session.begin():
        session.add(
            DeliveryRow(
                delivery_uid=f"{result.sop_instance_uid[:50]}.{len(destination)}",
                job_uid="1.2.3",
                sop_instance_uid=result.sop_instance_uid,
                destination=destination,
                sequence=1,
                state=state,
                next_attempt_at=utc_now(),
                created_at=utc_now(),
            )
        )


def report(results: tuple[Result, ...]) -> Result:
    """The plain SR."""
    return next(each for each in results if each.kind == "SR" and not each.form)


def named(place: Workplace, results: tuple[Result, ...]) -> str | None:
    """The predecessor that the SR names, in its study and series."""
    dataset = pydicom.dcmread(place.store.path(report(results).store_key))
    if "PredecessorDocumentsSequence" not in dataset:
        return None
    (study,) = dataset.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == place.headers[0].study_uid
    (series,) = study.ReferencedSeriesSequence
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)

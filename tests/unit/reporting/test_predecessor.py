"""A new report names the report that it replaces, where the destination has that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pydicom
import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.common.database import DeliveryRow, ResultRow
from services.common.settings import Destination
from services.reporting.delivery import DeliveryQueue
from services.reporting.kinds.report import SR
from services.reporting.objects.forms import PLAIN
from services.reporting.results import Made
from tests.builders.job_rows import write_inferred
from tests.builders.peers import destination
from tests.builders.reporting import Workplace, blobs

SHAPE = (7, 12, 10)
PACS = destination(104, "pacs")
ARCHIVE = destination(104, "archive")


@pytest.mark.parametrize("state", ["delivered", "committing", "committed"])
def test_s24_a_new_revision_names_the_report_that_it_replaces(place: Workplace, state: str) -> None:
    first = released(place, 1, state=state)
    second = released(place, 2, supersedes=first)
    assert named(place, second) == sent(place, first)


@pytest.mark.parametrize("state", ["pending", "waiting", "dead", "withdrawn", "held"])
def test_s24_a_report_that_never_left_is_no_predecessor(place: Workplace, state: str) -> None:
    first = released(place, 1, state=state)
    second = released(place, 2, supersedes=first)
    assert named(place, second) is None
    assert sent(place, second) == SR.sop_instance_uid(second, PLAIN)


def test_s24_a_destination_that_never_got_it_gets_a_report_that_does_not_name_it(
    place: Workplace,
) -> None:
    both = (PACS, ARCHIVE)
    first = released(place, 1, both, state="delivered")
    set_state(place, first, "archive", "dead")
    second = released(place, 2, both, supersedes=first)
    assert named(place, second, "pacs") == sent(place, first, "pacs")
    assert named(place, second, "archive") is None
    assert sent(place, second, "pacs") != sent(place, second, "archive")


def test_s24_each_destination_has_the_predecessor_that_it_got(place: Workplace) -> None:
    both = (PACS, ARCHIVE)
    first = released(place, 1, both, state="delivered")
    second = released(place, 2, both, supersedes=first, state="delivered")
    set_state(place, second, "archive", "withdrawn")
    third = released(place, 3, both, supersedes=second)
    assert named(place, third, "pacs") == sent(place, second, "pacs")
    assert named(place, third, "archive") == sent(place, first, "archive")


@pytest.mark.parametrize(("ended", "is_named"), [("delivered", True), ("waiting", False)])
def test_s24_a_report_on_its_way_is_named_when_it_has_arrived_at_the_release(
    place: Workplace, ended: str, is_named: bool
) -> None:
    first = released(place, 1, state="sending")
    second = made(place, 2, supersedes=first)
    set_state(place, first, "pacs", ended)
    release(place, second)
    assert named(place, second) == (sent(place, first) if is_named else None)


def test_s24_a_report_that_never_left_is_passed_over_for_the_one_before(place: Workplace) -> None:
    first = released(place, 1, state="delivered")
    second = released(place, 2, supersedes=first, state="withdrawn")
    third = released(place, 3, supersedes=second)
    assert named(place, third) == sent(place, first)


def test_s24_the_form_that_a_viewer_got_is_named_to_it(place: Workplace) -> None:
    both = (PACS, destination(104, "viewer", key_slice_regions=True, keep_empty_frames=True))
    first = released(place, 1, both, state="delivered")
    second = released(place, 2, both, supersedes=first)
    for name in ("pacs", "viewer"):
        assert named(place, second, name) == sent(place, first, name)
    assert sent(place, first, "pacs") != sent(place, first, "viewer")


def test_a_destination_that_was_configured_later_gets_a_report_without_predecessor(
    place: Workplace,
) -> None:
    first = released(place, 1, state="delivered")
    second = made(place, 2, supersedes=first)
    release(place, second, (PACS, ARCHIVE))
    assert named(place, second, "pacs") == sent(place, first)
    assert named(place, second, "archive") is None


def test_making_twice_makes_the_same_objects(place: Workplace) -> None:
    first = released(place, 1, state="delivered")
    made_once = make(place, 2, first).results
    with Session(place.engine) as session, session.begin():
        for row in session.scalars(select(ResultRow).where(ResultRow.job_uid != first)):
            session.delete(row)
    place.store.delete([each.store_key for each in made_once])
    assert make(place, 2, first).results == made_once


def released(
    place: Workplace,
    revision: int,
    destinations: Sequence[Destination] = (PACS,),
    supersedes: str = "",
    state: str = "pending",
) -> str:
    """A job whose results were made and released, all of them in this state; its UID."""
    job_uid = made(place, revision, supersedes, destinations)
    release(place, job_uid, destinations)
    for each in destinations:
        set_state(place, job_uid, each.name, state)
    return job_uid


def made(
    place: Workplace,
    revision: int,
    supersedes: str = "",
    destinations: Sequence[Destination] = (PACS,),
) -> str:
    """A job that the orchestrator has written down, with its results made; its UID."""
    make(place, revision, supersedes, destinations)
    return place.job(blobs(SHAPE), revision=revision).job_uid


def make(
    place: Workplace,
    revision: int,
    supersedes: str = "",
    destinations: Sequence[Destination] = (PACS,),
) -> Made:
    """Makes the results of a job that the orchestrator has written down."""
    job = replace(place.job(blobs(SHAPE), revision=revision), supersedes_job_uid=supersedes)
    write_inferred(place.engine, job)
    return place.make(job, check_with_dciodvfy=False, destinations=tuple(destinations))


def release(place: Workplace, job_uid: str, destinations: Sequence[Destination] = (PACS,)) -> None:
    """Puts the job's results on the queues."""
    DeliveryQueue(place.engine, "test").enqueue(job_uid, list(destinations))


def set_state(place: Workplace, job_uid: str, name: str, state: str) -> None:
    """Sets the state of the job's deliveries to a destination."""
    with place.engine.begin() as connection:
        connection.execute(
            update(DeliveryRow)
            .where(DeliveryRow.job_uid == job_uid, DeliveryRow.destination == name)
            .values(state=state)
        )


def report(place: Workplace, job_uid: str, name: str) -> ResultRow:
    """The one SR of a job that is for a destination."""
    with Session(place.engine) as session:
        (row,) = session.scalars(
            select(ResultRow)
            .join(DeliveryRow, DeliveryRow.sop_instance_uid == ResultRow.sop_instance_uid)
            .where(
                ResultRow.job_uid == job_uid,
                ResultRow.kind == "SR",
                DeliveryRow.destination == name,
            )
        )
        return row


def sent(place: Workplace, job_uid: str, name: str = "pacs") -> str:
    """The SOP Instance UID of the job's SR for a destination."""
    return report(place, job_uid, name).sop_instance_uid


def named(place: Workplace, job_uid: str, name: str = "pacs") -> str | None:
    """The predecessor that the destination's SR names, in its study and series."""
    dataset = pydicom.dcmread(place.store.path(report(place, job_uid, name).store_key))
    assert dataset.SOPInstanceUID == sent(place, job_uid, name)
    if "PredecessorDocumentsSequence" not in dataset:
        return None
    (study,) = dataset.PredecessorDocumentsSequence
    assert study.StudyInstanceUID == place.headers[0].study_uid
    (series,) = study.ReferencedSeriesSequence
    return str(series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)

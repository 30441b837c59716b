"""The registry of kinds: a new kind is a declaration, and everything else follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select
from sqlalchemy.orm import Session

from services.common.database import DeliveryRow, ResultRow
from services.common.settings import ReportingSettings
from services.reporting.analysis.analysis import Analysis
from services.reporting.delivery import DeliveryQueue, require_carried
from services.reporting.errors import ReportingError
from services.reporting.kinds.kind import Kind, Option, Order
from services.reporting.kinds.registry import KINDS, Kinds
from services.reporting.kinds.report import REPORT
from services.reporting.kinds.segmentation import SEGMENTATION
from services.reporting.objects.checking import check_identity, problem_of
from services.reporting.objects.finishing import as_file, finish
from services.reporting.objects.naming import ObjectNames
from services.reporting.results import ResultMaker
from tests.builders.peers import destination
from tests.builders.reporting import Workplace, blobs

SHAPE = (7, 12, 10)
PICTURE = ObjectNames(
    kind="PICTURE",
    called="picture",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.7",
    modality="OT",
    series_place=8,
    options={"keep_empty_frames": 1},
)


def write_pictures(analysis: Analysis, order: Order) -> tuple[bytes, ...]:
    """Two small objects of one series."""
    job = analysis.job
    files: list[bytes] = []
    for instance in (1, 2):
        picture = Dataset()
        picture.SOPClassUID = PICTURE.sop_class_uid
        picture.SOPInstanceUID = PICTURE.sop_instance_uid(job.job_uid, order.form, instance)
        picture.SeriesInstanceUID = PICTURE.series_uid(job.job_uid, order.form)
        picture.Modality = PICTURE.modality
        picture.SeriesNumber = order.series_number
        picture.SeriesDescription = PICTURE.called
        picture.InstanceNumber = instance
        finish(picture, job, analysis.source)
        files.append(as_file(picture))
    return tuple(files)


def check_pictures(files: tuple[Path, ...], analysis: Analysis, order: Order) -> str | None:
    """The first by the common check."""

    def check(dataset: pydicom.FileDataset) -> None:
        check_identity(dataset, analysis, PICTURE, order.form)

    return "a picture is missing" if len(files) != 2 else problem_of(files[0], "picture", check)


PICTURES = Kind(
    names=PICTURE,
    makes=lambda _: True,
    write=write_pictures,
    check=check_pictures,
    needs=("SEG",),
)
WITH_PICTURES = Kinds((SEGMENTATION, REPORT, PICTURES))
PACS = destination(104, "pacs", kinds=("SEG", "SR", "PICTURE"))
OLD = destination(104, "old", kinds=("PICTURE",), keep_empty_frames=True)


def make(place: Workplace, kinds: Kinds = WITH_PICTURES, *, empty: bool = False) -> str:
    """Makes the results of a job with these kinds; its UID."""
    job = place.job(np.zeros(SHAPE, np.uint8) if empty else blobs(SHAPE))
    settings = ReportingSettings(destinations=(PACS, OLD), check_with_dciodvfy=False)
    made = ResultMaker(place.engine, place.store, settings, kinds).make(job)
    assert made.withholding is None
    return job.job_uid


def test_a_registered_kind_is_made_checked_named_and_registered(place: Workplace) -> None:
    job_uid = make(place)
    with Session(place.engine) as session:
        rows = list(session.scalars(select(ResultRow).where(ResultRow.kind == "PICTURE")))
    assert sorted(row.form for row in rows) == ["", "", "keep_empty_frames", "keep_empty_frames"]
    assert len({row.series_uid for row in rows}) == 2
    assert {row.sequence for row in rows} == {1}, "it refers to the SEG, and goes after it"
    read = [pydicom.dcmread(BytesIO(place.store.read(row.store_key))) for row in rows]
    assert {each.SOPInstanceUID for each in read} == {row.sop_instance_uid for row in rows}
    assert {each.SeriesNumber for each in read} == {9008, 9009}
    assert job_uid == rows[0].job_uid


def test_each_destination_gets_the_kinds_and_the_form_that_it_wants(place: Workplace) -> None:
    job_uid = make(place)
    DeliveryQueue(place.engine, "test", WITH_PICTURES).enqueue(job_uid, [PACS, OLD])
    assert queued_kinds(place, "pacs") == ["SEG", "PICTURE", "PICTURE", "SR"]
    assert queued_kinds(place, "old") == ["PICTURE", "PICTURE"]


def test_whatever_refers_to_a_dead_delivery_is_held(place: Workplace) -> None:
    queue = DeliveryQueue(place.engine, "test", WITH_PICTURES)
    queue.enqueue(make(place), [PACS])
    parcel = queue.claim("pacs", 60)
    assert parcel is not None
    queue.dead(parcel.deliveries[0], "refused")
    with Session(place.engine) as session:
        states = session.scalars(select(DeliveryRow.state).order_by(DeliveryRow.sequence))
        assert list(states) == ["dead", "held", "held", "held"]


def test_a_job_without_a_report_is_delivered_all_the_same(place: Workplace) -> None:
    """Not every job has an SR: what it has goes to those who want it."""
    job_uid = make(place, Kinds((SEGMENTATION,)))
    DeliveryQueue(place.engine, "test").enqueue(job_uid, [PACS, OLD])
    assert queued_kinds(place, "pacs") == ["SEG"]
    assert queued_kinds(place, "old") == []


def test_a_job_of_which_nothing_was_found_has_a_report_alone(place: Workplace) -> None:
    job_uid = make(place, KINDS, empty=True)
    DeliveryQueue(place.engine, "test").enqueue(job_uid, [PACS])
    assert queued_kinds(place, "pacs") == ["SR"]


def test_results_of_a_kind_that_this_code_does_not_know_are_sent_as_they_are(
    place: Workplace,
) -> None:
    """What newer code made and older code releases is not forgotten."""
    job_uid = make(place)
    DeliveryQueue(place.engine, "test", KINDS).enqueue(job_uid, [PACS])
    assert queued_kinds(place, "pacs") == ["SEG", "PICTURE", "PICTURE", "SR"]


def test_a_kind_refers_to_what_its_needs_refer_to() -> None:
    letter = replace(PICTURES, names=replace(PICTURE, kind="LETTER"), needs=("SR",))
    kinds = Kinds((SEGMENTATION, REPORT, letter))
    assert kinds.refers("LETTER", "SEG")
    assert not kinds.refers("SEG", "LETTER")
    assert not kinds.refers("LETTER", "LETTER")
    assert kinds.sequence("LETTER") == 2


FAULTS: dict[str, tuple[Callable[[], Kinds], str]] = {
    "two of a name": (lambda: Kinds((SEGMENTATION, SEGMENTATION)), "two kinds .* called SEG"),
    "needed kind absent": (lambda: Kinds((REPORT,)), "SR needs SEG"),
    "needed kind later": (lambda: Kinds((REPORT, SEGMENTATION)), "SR needs SEG"),
    "series number taken": (
        lambda: Kinds((SEGMENTATION, replace(PICTURES, names=replace(PICTURE, series_place=1)))),
        "PICTURE cannot have the series number 2",
    ),
    "series number of the next job": (
        lambda: Kinds((SEGMENTATION, replace(PICTURES, names=replace(PICTURE, series_place=10)))),
        "PICTURE cannot have the series number 1",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_contradicts_itself_is_refused(fault: str) -> None:
    made, complaint = FAULTS[fault]
    with pytest.raises(ReportingError, match=complaint):
        made()


def test_a_kind_that_nobody_makes_is_named_with_its_destination() -> None:
    wrong = destination(104, "viewer", kinds=("SEG", "PICTURE"))
    with pytest.raises(ReportingError, match="'viewer' wants results of kind 'PICTURE'; there are"):
        KINDS.require_known([wrong])
    WITH_PICTURES.require_known([wrong])


def test_a_kind_that_the_transport_does_not_carry_is_named() -> None:
    bundle = Kinds((SEGMENTATION, replace(PICTURES, media_type="application/fhir+json")))
    with pytest.raises(ReportingError, match="which cstore does not carry"):
        require_carried([destination(104, "viewer", kinds=("PICTURE",))], bundle)


def test_an_option_is_asked_for_by_the_settings_of_a_destination() -> None:
    asking = replace(PICTURES, options=(Option("keep_empty_frames", lambda _: True),))
    form = Kinds((SEGMENTATION, asking)).form_for(PACS)
    assert form.has("keep_empty_frames")


def queued_kinds(place: Workplace, name: str) -> list[str]:
    """The kinds of what is on a destination's queue, in the order of sending."""
    with Session(place.engine) as session:
        return list(
            session.scalars(
                select(ResultRow.kind)
                .join(DeliveryRow, DeliveryRow.sop_instance_uid == ResultRow.sop_instance_uid)
                .where(DeliveryRow.destination == name)
                .order_by(DeliveryRow.sequence, ResultRow.kind)
            )
        )

"""Making results: once, whole, and only when everything is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from models.manifest import Manifest, Plausibility
from services.common.database import InstanceRow, ResultRow
from services.common.fates import Verdict
from services.common.identity import sha256_hex
from services.common.incomplete import missing_in_short
from services.common.settings import ReportingSettings
from services.reporting.errors import JobError
from services.reporting.results import ResultMaker
from tests.builders.broken_series import gantry_tilt, uneven_spacing
from tests.builders.job_rows import write_inferred
from tests.builders.malformed import malformed_values
from tests.builders.reporting import (
    Workplace,
    blobs,
    brain_manifest,
    plausible,
    series_in,
    three_segments,
    workplace,
)
from tests.builders.series import edit

SHAPE = (7, 12, 10)


def registered(place: Workplace) -> list[ResultRow]:
    """What is in the table."""
    with Session(place.engine) as session:
        return list(session.scalars(select(ResultRow).order_by(ResultRow.sequence)))


def test_results_are_registered_with_their_digest_and_in_order(place: Workplace) -> None:
    made = place.make(place.job(blobs(SHAPE)))
    assert made.withholding is None
    rows = registered(place)
    assert [(row.kind, row.sequence, row.form) for row in rows] == [("SEG", 0, ""), ("SR", 1, "")]
    for row in rows:
        content = place.store.read(row.store_key)
        assert (sha256_hex(content), len(content)) == (row.digest, row.size_bytes)
    voxels = int((blobs(SHAPE) == 1).sum())
    assert made.values[0].value == pytest.approx(voxels * 0.9 * 1.1 * 2.5 / 1000, abs=1e-6)
    assert set(made.seconds) == {"read", "encode_seg", "encode_sr", "write", "check", "register"}


def test_making_twice_registers_once_and_answers_the_same(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    first = place.make(job)
    stamps = [place.store.path(result.store_key).stat().st_mtime_ns for result in first.results]
    second = place.make(job)
    assert second.results == first.results
    assert second.values == first.values
    assert len(registered(place)) == 2
    assert stamps == [
        place.store.path(result.store_key).stat().st_mtime_ns for result in second.results
    ]


def test_making_again_after_losing_everything_makes_the_same_bytes(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    first = place.make(job)
    for result in first.results:
        place.store.path(result.store_key).unlink()
    with place.engine.begin() as connection:
        connection.execute(delete(ResultRow))
    assert place.make(job).results == first.results


def test_a_lost_file_is_made_again(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    first = place.make(job)
    place.store.path(first.results[0].store_key).unlink()
    assert place.make(job).results == first.results
    assert place.store.exists(first.results[0].store_key)


def test_nothing_found_makes_a_report_that_says_so(place: Workplace) -> None:
    made = place.make(place.job(np.zeros(SHAPE, np.uint8)))
    assert [result.kind for result in made.results] == ["SR"]
    assert [value.value for value in made.values] == [None]


def test_a_structure_not_found_has_no_value_of_zero(place: Workplace) -> None:
    made = place.make(place.job(blobs(SHAPE, (1, 3)), three_segments()))
    known = {value.segment_number: value.value for value in made.values}
    assert known[2] is None
    assert all((known[number] or 0) > 0 for number in (1, 3))


def test_a_tilted_gantry_is_measured_by_its_slanted_voxels(tmp_path: Path) -> None:
    """Where a model accepts a tilt: SpacingBetweenSlices is the planes' distance, not the way."""
    manifest = accepting("gantry_tilt")
    place = workplace(tmp_path, gantry_tilt(tmp_path / "series"))
    made = place.make(place.job(blobs(SHAPE), manifest))
    assert made.withholding is None
    seg = pydicom.dcmread(place.store.path(made.results[0].store_key))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    voxel_mm3 = float(np.prod(measures.PixelSpacing)) * float(measures.SpacingBetweenSlices)
    voxels = int((blobs(SHAPE) == 1).sum())
    assert made.values[0].value == pytest.approx(voxels * voxel_mm3 / 1000, abs=1e-6)
    assert place.make(place.job(blobs(SHAPE))).withholding is not None  # the model itself does not


def test_uneven_spacing_is_accepted_where_the_model_accepts_it(tmp_path: Path) -> None:
    """The gate let it through by the same limits: its results must not be withheld here."""
    place = workplace(tmp_path, uneven_spacing(tmp_path / "series"))
    made = place.make(place.job(blobs(SHAPE), accepting("uneven_spacing")))
    assert made.withholding is None
    in_slices = (blobs(SHAPE) == 1).sum(axis=(1, 2))
    thickness_mm = np.array([2.5, 2.5, 2.5, 3.25, 3.25, 2.5, 2.5])  # the gap of 4 mm is shared
    exact_ml = float(in_slices @ thickness_mm) * 0.9 * 1.1 / 1000
    assert made.values[0].value == pytest.approx(exact_ml, abs=1e-6)
    assert place.make(place.job(blobs(SHAPE))).withholding is not None  # the model itself does not


def accepting(what: str) -> Manifest:
    """The brain extraction, if it accepted that."""
    manifest = brain_manifest()
    role = manifest.roles["image"]
    accepts = role.gate.accepts.model_copy(update={what: True})
    gate = role.gate.model_copy(update={"accepts": accepts})
    roles = {"image": role.model_copy(update={"gate": gate})}
    return manifest.model_copy(update={"roles": roles})


def test_labels_on_another_grid_are_withheld(place: Workplace) -> None:
    made = place.make(place.job(np.ones((7, 10, 12), np.uint8)))
    assert made.withholding is not None
    assert made.withholding.reason == "geometry_mismatch"
    assert "7 x 10 x 12" in Verdict(made.withholding.reason, made.withholding.values).sentence
    assert registered(place) == []


def test_labels_in_another_slice_order_are_withheld(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    made = place.make(replace(job, sop_instance_uids=job.sop_instance_uids[::-1]))
    assert made.withholding is not None
    assert made.withholding.reason == "geometry_mismatch"
    assert registered(place) == []


def test_images_of_two_patients_are_withheld(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    edit(files[4], PatientID="OKAPI-18")
    place = workplace(tmp_path, files)
    made = place.make(place.job(blobs(SHAPE)))
    assert made.withholding is not None
    sentence = Verdict(made.withholding.reason, made.withholding.values).sentence
    assert "different patients" in sentence
    assert "OKAPI" not in sentence
    assert registered(place) == []
    place.engine.dispose()


def test_one_patient_padded_differently_is_one_patient(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    name = pydicom.dcmread(files[0]).PatientName
    edit(files[3], PatientName=f"{name}^^", PatientBirthDate="")
    place = workplace(tmp_path, files)
    assert place.make(place.job(blobs(SHAPE))).withholding is None
    place.engine.dispose()


def test_labels_that_no_segment_has_are_withheld(place: Workplace) -> None:
    labels = blobs(SHAPE)
    labels[3, 3, 3] = 200
    made = place.make(place.job(labels))
    assert made.withholding is not None
    assert made.withholding.reason == "object_check_failed"
    assert "200" in Verdict(made.withholding.reason, made.withholding.values).sentence
    assert registered(place) == []


def test_an_implausible_volume_is_withheld_where_the_model_says_so(place: Workplace) -> None:
    manifest = plausible(brain_manifest(), "withhold", max_ml=0.01)
    made = place.make(place.job(blobs(SHAPE), manifest))
    assert made.withholding is not None
    assert made.withholding.reason == "implausible_measurement"
    assert "Brain measures" in Verdict(made.withholding.reason, made.withholding.values).sentence
    assert registered(place) == []


def test_an_odd_volume_is_flagged_in_the_report_where_the_model_says_so(place: Workplace) -> None:
    manifest = plausible(brain_manifest(), "flag", max_ml=0.01)
    made = place.make(place.job(blobs(SHAPE), manifest))
    assert made.withholding is None
    report = pydicom.dcmread(place.store.path(made.results[-1].store_key))
    assert b"outside the expected" in place.store.read(made.results[-1].store_key)
    assert report.CompletionFlag == "COMPLETE"
    assert "outside the expected" in made.remarks[1]


def test_a_job_that_is_made_again_has_the_same_remarks(place: Workplace) -> None:
    job = place.job(blobs(SHAPE), plausible(brain_manifest(), "flag", max_ml=0.01))
    assert place.make(job).remarks == place.make(job).remarks != {}


def test_a_segment_that_reaches_an_edge_says_so(place: Workplace) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    inside = labels.copy()
    labels[-1, 3, 3] = 1
    manifest = plausible(brain_manifest(), "flag", max_ml=5000.0)
    made = place.make(place.job(labels, manifest))
    assert "reaches the edge of the images towards the" in made.remarks[1]
    assert b"reaches the edge of the images" in place.store.read(made.results[-1].store_key)
    assert place.make(place.job(inside, manifest)).remarks == {}


def test_a_segment_that_reaches_unmeasured_voxels_says_so(place: Workplace) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:4, 2:4, 2:4] = 1
    manifest = plausible(brain_manifest(), "flag", max_ml=5000.0)
    job = place.job(labels, manifest)
    reaching = replace(job, layers=replace(job.layers, touching_unmeasured=frozenset({1})))
    made = place.make(reaching)
    sentence = "Brain reaches the edge of what was measured within the images: a part of it"
    assert made.remarks[1].startswith(sentence)
    assert sentence.encode() in place.store.read(made.results[-1].store_key)


@pytest.mark.parametrize("volume_ml", [2600.0, 4299.0])
def test_no_brain_leaves_that_is_larger_than_a_skull(volume_ml: float) -> None:
    assert any(
        isinstance(each, Plausibility) and each.otherwise == "withhold" and volume_ml > each.max_ml
        for each in brain_manifest().findings
    )


def test_the_report_of_an_incomplete_study_says_that_it_is_partial(place: Workplace) -> None:
    missing = missing_in_short({"announced": 170, "received": 120, "broken_off": 1})
    job = replace(place.job(blobs(SHAPE)), incomplete=missing)
    made = place.make(job)
    assert made.withholding is None
    report = pydicom.dcmread(place.store.path(made.results[-1].store_key))
    assert report.CompletionFlag == "PARTIAL"
    assert "120 of 170 announced images" in report.CompletionFlagDescription


def test_an_object_that_fails_its_check_withholds_all(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is made to forget the references; nothing of the job is registered."""
    from services.reporting.kinds.segmentation import writing

    def forget(_source: object, dataset: pydicom.Dataset) -> None:
        del dataset.ReferencedSeriesSequence

    monkeypatch.setattr(writing, "_copy_series", forget)
    made = place.make(place.job(blobs(SHAPE)))
    assert made.withholding is not None
    assert made.withholding.reason == "object_check_failed"
    assert made.withholding.values["kind"] == "SEG"
    assert registered(place) == []


@malformed_values
def test_an_object_that_dciodvfy_refuses_is_withheld(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services.reporting.kinds.segmentation import writing

    def scribble(_source: object, dataset: pydicom.Dataset) -> None:
        dataset.ContentLabel = "not a code string"

    monkeypatch.setattr(writing, "_copy_series", scribble)
    made = place.make(place.job(blobs(SHAPE)))
    assert made.withholding is not None
    assert "dciodvfy" in str(made.withholding.values["problem"])
    assert registered(place) == []


def test_instances_that_are_not_registered_are_an_error(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    with pytest.raises(JobError, match="not registered"):
        place.make(replace(job, sop_instance_uids=("1.2.3", *job.sop_instance_uids[1:])))


def test_instances_of_another_series_are_an_error(place: Workplace) -> None:
    job = place.job(blobs(SHAPE))
    with pytest.raises(JobError, match="does not belong"):
        place.make(replace(job, series_uid="1.2.3"))


def test_r25_a_series_that_changed_since_the_gate_is_withheld(place: Workplace) -> None:
    """The geometry is examined once more: here one slice has moved."""
    job = place.job(blobs(SHAPE))
    header = place.headers[3].as_json()
    header["attributes"] = {**header["attributes"], "ImagePositionPatient": ["0", "0", "1"]}
    with place.engine.begin() as connection:
        connection.execute(
            update(InstanceRow)
            .where(InstanceRow.sop_instance_uid == place.headers[3].sop_instance_uid)
            .values(header=header)
        )
    made = place.make(job)
    assert made.withholding is not None
    assert made.withholding.reason == "geometry_mismatch"


def test_r41_jobs_of_a_study_do_not_share_series_numbers(place: Workplace) -> None:
    jobs = [place.job(blobs(SHAPE), revision=revision) for revision in (1, 2)]
    for job in jobs:
        write_inferred(place.engine, job)
    numbers = [
        pydicom.dcmread(place.store.path(result.store_key)).SeriesNumber
        for job in jobs
        for result in place.make(job).results
    ]
    assert numbers == [9000, 9001, 9010, 9011]


def test_without_dciodvfy_results_are_made_too(place: Workplace) -> None:
    settings = ReportingSettings(check_with_dciodvfy=False)
    made = ResultMaker(place.engine, place.store, settings).make(place.job(blobs(SHAPE)))
    assert len(made.results) == 2

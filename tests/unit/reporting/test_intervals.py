"""How sure a volume is: from the members' volumes to the report, and back from its file."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from axial.v1 import reporting_pb2
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from models.manifest import Manifest
from services.common.fates import Verdict
from services.common.manifests import StoredManifests
from services.reporting.analysis.analysis import Analysis
from services.reporting.analysis.interval import interval_of
from services.reporting.analysis.judging import judge
from services.reporting.errors import JobError
from services.reporting.job import Job, ModelNumbers, Withholding
from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.messages import job_of, response_of
from services.reporting.objects.forms import PLAIN
from tests.builders.reporting import (
    Workplace,
    analysis_of,
    blobs,
    ensemble_manifest,
    numbers_of_members,
    series_in,
)
from tests.builders.reporting_service import make_request
from tests.unit.reporting.conftest import Written, write
from tests.unit.reporting.reading import groups, named, value, write_to

SHAPE = (7, 12, 10)
BELOW, ABOVE = "371885007", "371886008"
FOUND = (1, 2, 3)
AMOUNTS = st.floats(0.0, 1e4)


def numbers(whole_ml: dict[int, float], **more: dict[int, float]) -> dict[str, ModelNumbers]:
    """Members that find a tenth less and a quarter more; segment 4 is found by three of them."""
    return numbers_of_members(
        volume_ml={**whole_ml, 4: 0.0},
        volume_low_ml={number: 0.9 * ml for number, ml in whole_ml.items()} | {4: 0.0},
        volume_high_ml={number: 1.25 * ml for number, ml in whole_ml.items()} | {4: 2.3},
        members_finding={1: 12.0, 2: 12.0, 3: 12.0, 4: 3.0},
        **more,
    )


def volumes_ml(files: list[Path], labels: Any) -> dict[int, float]:
    analysis = analysis_of(files, labels, ensemble_manifest())
    return {each.segment_number: each.value for each in analysis.values if each.value is not None}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return series_in(tmp_path_factory.mktemp("series"), "oblique")


@pytest.fixture(scope="module")
def analysis(files: list[Path]) -> Analysis:
    """Three kinds of lesions are found; the model counted each on the grid that it was sent."""
    labels = blobs(SHAPE, FOUND)
    given_ = numbers(volumes_ml(files, labels))
    return analysis_of(files, labels, ensemble_manifest(), numbers=given_)


@pytest.fixture(scope="module")
def written(analysis: Analysis, files: list[Path]) -> Written:
    return write(files, analysis)


def volume_items(report: Dataset) -> list[Dataset]:
    return [item for group in groups(report) for item in named(group, "118565006")]


def amount(item: Dataset) -> tuple[float, str]:
    (measured,) = item.MeasuredValueSequence
    unit = measured.MeasurementUnitsCodeSequence[0]
    return float(measured.NumericValue), str(unit.CodeValue)


def test_the_report_has_how_far_below_and_above_each_volume_members_are(
    written: Written, analysis: Analysis
) -> None:
    volumes = [each.value for each in analysis.values if each.value is not None]
    items = volume_items(written.sr())
    assert len(items) == len(FOUND)
    for item, volume in zip(items, volumes, strict=True):
        (below,), (above,) = named(item, BELOW), named(item, ABOVE)
        for each, wanted in ((below, 0.1 * volume), (above, 0.25 * volume)):
            assert amount(each) == (pytest.approx(wanted, abs=2e-6), "mL")
            assert each.RelationshipType == "HAS PROPERTIES"
            assert each.ConceptNameCodeSequence[0].CodingSchemeDesignator == "SCT"


def test_another_reader_finds_the_volumes_as_before(written: Written, analysis: Analysis) -> None:
    read: Any = highdicom.sr.srread(io.BytesIO(written.report))
    found = [
        float(measurement.value)
        for group in read.content.get_volumetric_roi_measurement_groups()
        for measurement in group.get_measurements()
    ]
    assert found == pytest.approx([each.value for each in analysis.values if each.value])


def test_the_interval_is_told_in_words_with_what_it_is(written: Written) -> None:
    group = groups(written.sr())[0]
    (comment,) = named(group, "121106")
    volume = amount(named(group, "118565006")[0])[0]
    assert comment.TextValue == (
        f"Intraparenchymal haemorrhage {volume:.1f} mL; the 12 networks, each alone, measure "
        f"{0.9 * volume:.1f} to {1.25 * volume:.1f} mL (percentiles 2.5 and 97.5 of their volumes)."
    )


def test_the_check_finds_an_interval_that_is_another(
    written: Written, analysis: Analysis, tmp_path: Path
) -> None:
    assert check_report(write_to(tmp_path, written.report), analysis, PLAIN) is None
    for change in (_double, _leave_out, _other_unit):
        report = written.sr()
        change(volume_items(report)[1])
        content = io.BytesIO()
        report.save_as(content)
        problem = check_report(write_to(tmp_path, content.getvalue()), analysis, PLAIN)
        assert problem is not None, change
        assert "interval of segment 2" in problem


def _double(item: Dataset) -> None:
    (below,) = named(item, BELOW)
    measured = below.MeasuredValueSequence[0]
    measured.NumericValue = str(float(measured.NumericValue) * 2)


def _leave_out(item: Dataset) -> None:
    item.ContentSequence = [each for each in item.ContentSequence if each not in named(item, ABOVE)]


def _other_unit(item: Dataset) -> None:
    (above,) = named(item, ABOVE)
    above.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "1"


def test_the_validator_has_nothing_against_it(place: Workplace) -> None:
    made = place.make(ensemble_job(place), check_with_dciodvfy=True)
    assert made.withholding is None
    assert made.results


def test_a_report_without_members_has_no_interval(one: Written) -> None:
    (item,) = volume_items(one.sr())
    assert not named(item, BELOW)
    assert not named(item, ABOVE)


@given(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, st.sampled_from(["mL", "mm3", "L"]))
def test_what_is_reported_lies_in_its_interval_and_the_scale_is_that_of_the_whole(
    whole: float, low: float, high: float, reported_ml: float, unit: str
) -> None:
    low, high = sorted((low, high))
    per_ml = {"mL": 1.0, "mm3": 1000.0, "L": 1e-3}[unit]
    value = reported_ml * per_ml
    members = ModelNumbers(
        {}, {"volume_ml": {1: whole}, "volume_low_ml": {1: low}, "volume_high_ml": {1: high}}
    )
    found = interval_of(members, 1, value, unit)
    assert found is not None
    assert found[0] <= value <= found[1]
    scale = reported_ml / whole if round(whole * per_ml, 9) > 0 else 1.0
    if whole > 0.01 and scale < 100:
        assert found[0] == pytest.approx(min(low * scale * per_ml, value), rel=1e-3, abs=1e-3)
        assert found[1] == pytest.approx(max(high * scale * per_ml, value), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", ["volume_low_ml", "volume_high_ml"])
def test_what_the_model_did_not_say_is_not_made_up(name: str) -> None:
    of_segments = {"volume_ml": {1: 2.0}, "volume_low_ml": {1: 1.0}, "volume_high_ml": {1: 3.0}}
    del of_segments[name]
    assert interval_of(ModelNumbers({}, of_segments), 1, 2.0, "mL") is None


def test_the_answer_has_the_interval_also_of_what_only_some_find(place: Workplace) -> None:
    job = ensemble_job(place, disagreement={4: 0.4})
    answer = response_of(job, place.make(job, check_with_dciodvfy=False))
    told = {each.segment_number: each for each in answer.measurements}
    for number in FOUND:
        assert told[number].low == pytest.approx(0.9 * told[number].value, rel=1e-4)
        assert told[number].high == pytest.approx(1.25 * told[number].value, rel=1e-4)
    assert told[4].why_unknown
    assert (told[4].low, told[4].high) == (0.0, pytest.approx(2.3))
    assert told[4].remark == "", "a disagreement below the limit is not worth a remark"


def test_what_all_members_agree_is_not_there_has_no_interval(place: Workplace) -> None:
    job = ensemble_job(place)
    nobody: dict[int, float] = dict.fromkeys(range(1, 5), 0.0)
    empty = numbers_of_members(volume_ml=nobody, volume_low_ml=nobody, volume_high_ml=nobody)
    job = replace(job, numbers=empty)
    answer = response_of(job, place.make(job, check_with_dciodvfy=False))
    (fourth,) = (each for each in answer.measurements if each.segment_number == 4)
    assert not fourth.HasField("low")
    assert not fourth.HasField("high")


def test_a_request_carries_the_numbers(place: Workplace) -> None:
    job = ensemble_job(place, entropy={1: 0.25})
    assert job_of(make_request(job), StoredManifests(place.store)) == job


def test_networks_that_disagree_are_told_where_the_reader_looks(place: Workplace) -> None:
    job = ensemble_job(place, disagreement={1: 0.2, 2: 0.7312, 4: 0.66})
    made = place.make(job, check_with_dciodvfy=False)
    assert made.withholding is None
    assert made.remarks[2].startswith(
        "The 12 networks disagree about Extra-axial haemorrhage: disagreement 0.731, at most 0.5 "
        "is expected (0: all find the same, 1: no two share a voxel). Please check"
    )
    assert "disagree" not in made.remarks.get(1, "")
    assert "3 of them, each alone, do, up to 2.3 mL." in made.remarks[4]
    report = pydicom.dcmread(place.store.path(made.results[-1].store_key))
    comments = [
        str(named(group, "121106")[0].TextValue) if named(group, "121106") else ""
        for group in groups(report)
    ]
    assert comments[1].startswith(made.remarks[2]), "what has to be seen comes first"
    assert comments[3] == made.remarks[4], "also of what was looked for and not found"
    absent = groups(report)[3]
    assert value(named(absent, "121052")[0]) == ("260415000", "SCT")
    answer = response_of(job, made)
    remarks = {each.segment_number: each.remark for each in answer.measurements}
    assert remarks[2] == made.remarks[2]
    assert remarks[4] == made.remarks[4]


@pytest.mark.parametrize(
    ("number", "called"),
    [
        ("disagreement", "disagreement"),
        ("entropy", "uncertainty"),
        ("mutual_information", "shared uncertainty"),
    ],
)
def test_a_result_is_withheld_where_the_model_says_so(
    place: Workplace, number: str, called: str
) -> None:
    manifest = limited(ensemble_manifest(), number, "withhold")
    job = ensemble_job(place, manifest, **{number: {2: 0.61}})
    made = place.make(job, check_with_dciodvfy=False)
    assert isinstance(made.withholding, Withholding)
    assert made.results == ()
    sentence = Verdict(made.withholding.reason, made.withholding.values).sentence
    assert sentence == (
        "The 12 networks of the model disagree about Extra-axial haemorrhage: "
        f"{called} 0.61, where at most 0.5 is accepted."
    )


@pytest.mark.parametrize("known", [{2: 0.5}, {1: 0.9}, {}], ids=["at the limit", "other", "none"])
def test_what_is_not_above_the_limit_or_not_known_passes(
    analysis: Analysis, known: dict[int, float]
) -> None:
    manifest = limited(ensemble_manifest(), "entropy", "withhold")
    given_ = numbers({1: 1.0}, entropy=known)
    job = replace(analysis.job, manifest=manifest, numbers=given_)
    assert judge(replace(analysis, job=job)).withholding is None
    silent = replace(analysis, job=replace(job, numbers={}))
    assert judge(silent).withholding is None, "a run that ended early says nothing"


def limited(manifest: Manifest, number: str, otherwise: str) -> Manifest:
    """The manifest with one limit alone, of segment 2."""
    change = {"number": number, "otherwise": otherwise, "segment": 2}
    limit = manifest.findings[-1].model_copy(update=change)
    return manifest.model_copy(update={"findings": (limit,)})


def ensemble_job(
    place: Workplace, manifest: Manifest | None = None, **more: dict[int, float]
) -> Job:
    """A job whose labels hold three of the four kinds of lesions."""
    labels = blobs(SHAPE, FOUND)
    given_ = numbers(volumes_ml(place.files, labels), **more)
    return replace(place.job(labels, manifest or ensemble_manifest()), numbers=given_)


def test_an_output_of_another_kind_is_still_refused(place: Workplace) -> None:
    request = make_request(ensemble_job(place))
    request.outputs.append(reporting_pb2.JobOutput(name="dose", kind="map"))
    with pytest.raises(JobError, match=r"'dose' \(map\)"):
        job_of(request, StoredManifests(place.store))


def test_remarks_of_the_report_do_not_depend_on_the_interval(analysis: Analysis) -> None:
    """A volume's interval is no reason to look twice."""
    assert "networks" not in " ".join(judge(analysis).remarks.values())
    assert b"networks, each" in encode_report(analysis, PLAIN, 9001, Context())
    assert np.isfinite([each.low or 0.0 for each in analysis.values]).all()

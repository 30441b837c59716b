"""What numbers of a report mean: each has its own concept and unit, and a finding its site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from highdicom.sr import MeasurementReport, srread
from pydantic import ValidationError
from pydicom.dataset import Dataset

from models.manifest import Code, Manifest, Segment
from services.reporting.kinds.report.checking import check_report
from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.objects.forms import PLAIN
from tests.builders.reporting import (
    Workplace,
    analysis_of,
    blobs,
    brain_manifest,
    series_in,
)
from tests.unit.reporting.reading import groups, items, named

SHAPE = (7, 12, 10)
BRAIN = Code(scheme="SCT", value="12738006", meaning="Brain")
VOLUME = Code(scheme="SCT", value="118565006", meaning="Volume")
ESTIMATED = Code(
    scheme="DCM",
    value="121217",
    meaning="Volume estimated from three or more non-coplanar 2D regions",
)
ML = Code(scheme="UCUM", value="mL", meaning="milliliter")
MM3 = Code(scheme="UCUM", value="mm3", meaning="cubic millimeter")
LESION = Segment(
    number=2,
    label="Lesion",
    category=Code(scheme="SCT", value="49755003", meaning="Morphologically Abnormal Structure"),
    type=Code(scheme="SCT", value="52988006", meaning="Lesion"),
    region=BRAIN,
    colour_cielab=(30000, 40000, 20000),
)


def two_of_each() -> Manifest:
    """Two segments, one of them a lesion, and two volumes of each in unit and concept."""
    manifest = brain_manifest()
    (asked,) = manifest.measurements
    first = asked.model_copy(update={"concept": VOLUME, "unit": ML})
    second = asked.model_copy(update={"concept": ESTIMATED, "unit": MM3})
    return manifest.model_copy(
        update={"segments": (*manifest.segments, LESION), "measurements": (first, second)}
    )


def test_two_measurements_of_one_kind_keep_their_concepts_and_units(place: Workplace) -> None:
    """dciodvfy has judged the objects too; highdicom reads them."""
    labels = blobs(SHAPE, (1, 2))
    made = place.make(place.job(labels, two_of_each()))
    assert made.withholding is None
    (report,) = [each for each in made.results if each.kind == "SR"]
    document = srread(place.store.path(report.store_key))
    content = document.content
    assert isinstance(content, MeasurementReport)
    for number, group in enumerate(content.get_volumetric_roi_measurement_groups(), start=1):
        voxels = int((labels == number).sum())
        read = [
            (each.name.value, each.unit.value, pytest.approx(each.value, abs=1e-3))
            for each in group.get_measurements()
        ]
        cubic_mm = voxels * 0.9 * 1.1 * 2.5
        assert read == [
            (VOLUME.value, "mL", cubic_mm / 1000),
            (ESTIMATED.value, "mm3", cubic_mm),
        ]
    assert [(value.unit, value.wanted) for value in made.values] == [
        ("mL", 0), ("mL", 0), ("mm3", 1), ("mm3", 1),
    ]  # fmt: skip


def test_a_lesion_lies_in_its_region_and_a_structure_is_its_own_site(place: Workplace) -> None:
    made = place.make(place.job(blobs(SHAPE, (1, 2)), two_of_each()))
    content = srread(place.store.path(made.results[-1].store_key)).content
    assert isinstance(content, MeasurementReport)
    told = [
        (finding.value, [site.value.value for site in group.finding_sites])
        for group in content.get_volumetric_roi_measurement_groups()
        if (finding := group.finding_type) is not None
    ]
    assert told == [(BRAIN.value, [BRAIN.value]), (LESION.type.value, [BRAIN.value])]


def swap_concepts(group: Dataset) -> None:
    first, second = named_numbers(group)
    first.ConceptNameCodeSequence, second.ConceptNameCodeSequence = (
        second.ConceptNameCodeSequence,
        first.ConceptNameCodeSequence,
    )


def one_concept_for_both(group: Dataset) -> None:
    first, second = named_numbers(group)
    first.ConceptNameCodeSequence = second.ConceptNameCodeSequence


def another_scheme(group: Dataset) -> None:
    named_numbers(group)[0].ConceptNameCodeSequence[0].CodingSchemeDesignator = "99AXIAL"


def another_unit(group: Dataset) -> None:
    units = named_numbers(group)[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence
    units[0].CodeValue = "mm3"


def in_itself(group: Dataset) -> None:
    named(group, "363698007")[0].ConceptCodeSequence = named(group, "121071")[0].ConceptCodeSequence


def without_site(group: Dataset) -> None:
    group.ContentSequence = [
        item for item in items(group) if item is not named(group, "363698007")[0]
    ]


def named_numbers(group: Dataset) -> list[Any]:
    """The NUM items."""
    return [item for item in items(group) if item.ValueType == "NUM"]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (swap_concepts, "another meaning or unit"),
        (one_concept_for_both, "another meaning or unit"),
        (another_scheme, "another meaning or unit"),
        (another_unit, "another meaning or unit"),
        (in_itself, "finding or site of segment 2"),
        (without_site, "finding or site of segment 2"),
    ],
)
def test_the_check_finds_a_number_that_means_something_else(
    tmp_path: Path, fault: Callable[[Dataset], None], problem: str
) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    analysis = analysis_of(files, blobs(SHAPE, (1, 2)), two_of_each())
    file = tmp_path / "report.dcm"
    file.write_bytes(encode_report(analysis, PLAIN, 1, Context()))
    assert check_report(file, analysis, PLAIN) is None
    dataset = pydicom.dcmread(file)
    fault(groups(dataset)[1])
    dataset.save_as(file)
    assert problem in (check_report(file, analysis, PLAIN) or "")


def test_the_check_finds_a_predecessor_that_the_form_does_not_name(tmp_path: Path) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    analysis = analysis_of(files, blobs(SHAPE))
    before = Dataset()
    before.SOPClassUID, before.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.3"
    before.StudyInstanceUID, before.SeriesInstanceUID = analysis.job.study_uid, "1.2.4"
    file = tmp_path / "report.dcm"
    file.write_bytes(encode_report(analysis, PLAIN, 1, Context(predecessor=before)))
    assert check_report(file, analysis, PLAIN) == "it replaces another report"


@pytest.mark.parametrize("fault", ["lost", "foreign"])
def test_the_check_finds_an_image_library_of_other_images(tmp_path: Path, fault: str) -> None:
    files = series_in(tmp_path / "series", "axial", SHAPE)
    analysis = analysis_of(files, blobs(SHAPE))
    file = tmp_path / "report.dcm"
    file.write_bytes(encode_report(analysis, PLAIN, 1, Context()))
    dataset = pydicom.dcmread(file)
    (library,) = named(dataset, "111028")
    (group,) = items(library)
    if fault == "lost":
        del group.ContentSequence[-1]
    else:
        items(group)[-1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"
    dataset.save_as(file)
    assert check_report(file, analysis, PLAIN) == "the image library is not that of the source"


@pytest.mark.parametrize("region", [None, LESION.type])
def test_a_manifest_must_say_where_a_finding_lies(region: Code | None) -> None:
    with pytest.raises(ValidationError, match=r"segment 2 \(Lesion\) is no anatomical structure"):
        Segment.model_validate({**LESION.model_dump(), "region": region})


def test_an_anatomical_structure_needs_no_region() -> None:
    (brain,) = brain_manifest().segments
    assert brain.region is None
    assert (brain.is_anatomical, brain.site) == (True, brain.type)

"""What viewers and archives need of an SR, and what IHE AI Results asks: one test per row."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from services.reporting.kinds.report.writing import Context, encode_report
from services.reporting.objects.forms import PLAIN
from tests.builders.reporting import (
    analysis_of,
    blobs,
    brain_manifest,
    series_in,
)
from tests.builders.series import edit
from tests.unit.reporting.conftest import Written, write
from tests.unit.reporting.reading import concept, groups, items, meaning, named, value, walk

SHAPE = (7, 12, 10)


def test_s1_report_is_a_comprehensive_3d_sr(one: Written) -> None:
    assert one.sr().SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert one.sr().Modality == "SR"


def test_s2_title_is_imaging_measurement_report(one: Written) -> None:
    title = one.sr().ConceptNameCodeSequence[0]
    assert (title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning) == (
        "126000",
        "DCM",
        "Imaging Measurement Report",
    )


def test_s3_template_is_1500(one: Written) -> None:
    template = one.sr().ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")


def test_s4_meanings_are_the_standards_english(one: Written) -> None:
    assert meaning(named(one.sr(), "126010")[0]) == "Imaging Measurements"
    (group,) = groups(one.sr())
    assert meaning(group) == "Measurement Group"
    assert [meaning(item) for item in items(group)[:2]] == [
        "Tracking Identifier",
        "Tracking Unique Identifier",
    ]


def test_s5_content_is_never_empty(nothing: Written) -> None:
    assert items(nothing.sr())
    assert groups(nothing.sr())


def test_s6_there_is_exactly_one_container_of_measurements(nothing: Written) -> None:
    assert len(named(nothing.sr(), "126010")) == 1


def test_s7_image_library_holds_every_source_image(one: Written) -> None:
    (library,) = named(one.sr(), "111028")
    (group,) = named(library, "126200")
    images = [item for item in items(group) if item.ValueType == "IMAGE"]
    referenced = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in images]
    assert referenced == [one.source(k).SOPInstanceUID for k in range(SHAPE[0])]
    assert value(named(group, "121139")[0]) == ("MR", "DCM")
    assert not [item for item in items(group) if "Position" in meaning(item)]


def test_s7_an_unknown_thickness_is_not_invented(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, SliceThickness=None)
    report = write(files, analysis_of(files, blobs(SHAPE))).sr()
    assert "Slice Thickness" not in {meaning(item) for item in walk(report)}


def test_s8_tracking_comes_first_in_every_group_and_before_any_uid(several: Written) -> None:
    for group in groups(several.sr()):
        assert [concept(item) for item in items(group)[:2]] == ["112039", "112040"]
        uids = [item for item in items(group) if item.ValueType == "UIDREF"]
        assert concept(uids[0]) == "112040"


def test_s9_tracking_uid_is_unique_per_group(several: Written) -> None:
    uids = [items(group)[1].UID for group in groups(several.sr())]
    assert len(set(uids)) == len(uids) == 3


def test_s10_groups_hold_a_region_for_viewers_that_need_one(for_viewers: Written) -> None:
    found = [group for group in groups(for_viewers.sr()) if named(group, "118565006")]
    assert len(found) == 2
    for group in found:
        (region,) = named(group, "111030")
        assert (region.ValueType, region.GraphicType) == ("SCOORD", "POLYLINE")
        assert not named(group, "121191")


def test_s11_measurement_refers_to_one_segment_and_its_source_series(several: Written) -> None:
    seg = several.seg()
    numbers: list[int] = []
    for group in groups(several.sr()):
        for segment in named(group, "121191"):
            reference = segment.ReferencedSOPSequence[0]
            assert reference.ReferencedSOPClassUID == seg.SOPClassUID
            assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
            numbers.append(reference.ReferencedSegmentNumber)
            (series,) = named(group, "121232")
            assert several.source().SeriesInstanceUID == series.UID
    assert numbers == [1, 2]


def test_s12_evidence_is_the_image_series_and_then_one_segmentation(several: Written) -> None:
    (study,) = several.sr().CurrentRequestedProcedureEvidenceSequence
    series = [item.SeriesInstanceUID for item in study.ReferencedSeriesSequence]
    assert series == [several.source().SeriesInstanceUID, several.seg().SeriesInstanceUID]


def test_s13_evidence_is_complete_and_of_this_study(several: Written) -> None:
    report = several.sr()
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    assert study.StudyInstanceUID == several.source().StudyInstanceUID
    assert "PertinentOtherEvidenceSequence" not in report
    evidence = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    referenced = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in walk(report)
        if item.ValueType == "IMAGE"
    }
    assert referenced <= evidence
    assert len(evidence) == SHAPE[0] + 1


def test_s14_one_report_to_a_series_and_in_the_sources_study(several: Written) -> None:
    assert several.sr().StudyInstanceUID == several.source().StudyInstanceUID
    assert several.sr().SeriesInstanceUID not in {
        several.seg().SeriesInstanceUID,
        several.source().SeriesInstanceUID,
    }


def test_s16_a_region_names_one_image(for_viewers: Written) -> None:
    for group in groups(for_viewers.sr()):
        for region in named(group, "111030"):
            (image,) = items(region)
            assert (image.ValueType, image.RelationshipType) == ("IMAGE", "SELECTED FROM")
            (reference,) = image.ReferencedSOPSequence
            assert "ReferencedFrameNumber" not in reference  # the source has single frames


def test_s18_regions_are_two_dimensional_on_the_key_slice(for_viewers: Written) -> None:
    labels = for_viewers.analysis.labels
    uids = [for_viewers.source(k).SOPInstanceUID for k in range(len(for_viewers.files))]
    regions = [region for group in groups(for_viewers.sr()) for region in named(group, "111030")]
    for region, number in zip(regions, (1, 3), strict=True):
        image = items(region)[0].ReferencedSOPSequence[0]
        k = uids.index(image.ReferencedSOPInstanceUID)
        assert (labels[k] == number).sum() == (labels == number).sum(axis=(1, 2)).max()
        points = np.array(region.GraphicData, float).reshape(-1, 2)
        np.testing.assert_array_equal(points[0], points[-1])
        assert points.min() >= 0
        assert points[:, 0].max() <= SHAPE[2]
        assert points[:, 1].max() <= SHAPE[1]


def test_s19_finding_and_site_stand_in_the_group(several: Written) -> None:
    found = [
        (value(named(group, "121071")[0]), value(named(group, "363698007")[0]))
        for group in groups(several.sr())
    ]
    assert found == [
        (("12738006", "SCT"), ("12738006", "SCT")),
        (("113305005", "SCT"), ("12738006", "SCT")),  # its region in the manifest
        (("15926001", "SCT"), ("15926001", "SCT")),
    ]


def test_s20_volumes_are_in_millilitres_of_ucum(one: Written) -> None:
    (group,) = groups(one.sr())
    (number,) = named(group, "118565006")
    unit = number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("mL", "UCUM")


def test_s21_there_are_no_private_codes(several: Written) -> None:
    designators = {
        code.CodingSchemeDesignator
        for item in walk(several.sr())
        for keyword in ("ConceptNameCodeSequence", "ConceptCodeSequence")
        for code in item.get(keyword) or []
    }
    assert designators <= {"DCM", "SCT", "UCUM", "LN", "RFC5646"}


def test_s22_report_is_complete_and_unverified(one: Written) -> None:
    report = one.sr()
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert "PreliminaryFlag" not in report


def test_s23_performed_procedure_attributes_are_there(one: Written) -> None:
    assert "PerformedProcedureCodeSequence" in one.sr()
    assert "ReferencedPerformedProcedureStepSequence" in one.sr()


def test_s23_performed_procedure_step_is_the_sources(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    step = Dataset()
    step.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.3"
    step.ReferencedSOPInstanceUID = "1.2.3.4"
    step.InstanceNumber = 0  # scanners write more into it than the standard knows
    for file in files:
        edit(file, ReferencedPerformedProcedureStepSequence=[step])
    (written,) = (
        write(files, analysis_of(files, blobs(SHAPE))).sr().ReferencedPerformedProcedureStepSequence
    )
    assert written.ReferencedSOPInstanceUID == "1.2.3.4"
    assert "InstanceNumber" not in written


def test_s24_a_replaced_report_is_named_as_predecessor(one: Written) -> None:
    before = Dataset()
    before.SOPClassUID = one.sr().SOPClassUID
    before.SOPInstanceUID = "1.2.3"
    before.SeriesInstanceUID = "1.2.4"
    before.StudyInstanceUID = one.sr().StudyInstanceUID
    content = encode_report(one.analysis, PLAIN, 1, Context(predecessor=before))
    (study,) = pydicom.dcmread(BytesIO(content)).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.4"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert "PredecessorDocumentsSequence" not in one.sr()


def test_s25_language_is_english_with_its_country(one: Written) -> None:
    (language,) = named(one.sr(), "121049")
    assert value(language) == ("en-US", "RFC5646")


def test_s26_procedure_reported_is_the_imaging_procedure(one: Written) -> None:
    (procedure,) = named(one.sr(), "121058")
    assert value(procedure) == ("24590-2", "LN")
    assert procedure.ConceptCodeSequence[0].CodeMeaning != brain_manifest().identity.title


@pytest.mark.parametrize(("modality", "code"), [("MR", "25056-3"), ("CT", "25045-6")])
def test_s26_procedure_reported_comes_from_the_modality_where_the_model_names_none(
    tmp_path: Path, modality: str, code: str
) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, Modality=modality)
    manifest = brain_manifest().model_copy(update={"procedure_reported": None})
    report = write(files, analysis_of(files, blobs(SHAPE), manifest)).sr()
    assert value(named(report, "121058")[0]) == (code, "LN")


def test_s27_observer_is_the_device_and_the_algorithm_has_name_and_version(one: Written) -> None:
    report = one.sr()
    assert value(named(report, "121005")[0]) == ("121007", "DCM")
    for code in ("121012", "121013", "121014", "121015", "121016"):
        assert len(named(report, code)) == 1, code
    (group,) = groups(report)
    assert named(group, "111001")[0].TextValue == "Brain extraction"
    assert named(group, "111003")[0].TextValue == brain_manifest().version


def test_s29_our_own_text_is_ascii(tmp_path: Path) -> None:
    manifest = brain_manifest()
    identity = manifest.identity.model_copy(
        update={"title": "Gehirn für Köpfe", "manufacturer": "Universität Münster"}
    )
    files = series_in(tmp_path, "axial")
    changed = manifest.model_copy(update={"identity": identity})
    written = write(files, analysis_of(files, blobs(SHAPE), changed))
    assert max(written.report) < 128 or b"fur Kopfe" in written.report
    assert "für".encode() not in written.report + written.segmentation
    assert written.seg().ContentDescription == "Gehirn fur Kopfe"


def test_s30_transfer_syntax_is_explicit_vr_little_endian(one: Written) -> None:
    assert one.sr().file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_remarks_stand_as_comments_in_their_group(several: Written) -> None:
    context = Context(remarks={3: "Brainstem measures 1 mL, outside the expected range."})
    report = pydicom.dcmread(BytesIO(encode_report(several.analysis, PLAIN, 1, context)))
    comments = [[item.TextValue for item in named(group, "121106")] for group in groups(report)]
    assert comments == [[], [], ["Brainstem measures 1 mL, outside the expected range."]]


def test_images_that_were_left_out_are_told_in_the_first_group(several: Written) -> None:
    sentence = "Image 900 of the series is no slice but a localizer and was left out."
    job = replace(several.analysis.job, left_out=(sentence,))
    analysis = replace(several.analysis, job=job)
    context = Context(remarks={1: "Look at it."})
    report = pydicom.dcmread(BytesIO(encode_report(analysis, PLAIN, 1, context)))
    comments = [[item.TextValue for item in named(group, "121106")] for group in groups(report)]
    assert comments == [[f"Look at it. {sentence}"], [], []]


def test_the_same_work_writes_the_same_bytes(several: Written) -> None:
    assert encode_report(several.analysis, PLAIN, 9001, Context()) == several.report

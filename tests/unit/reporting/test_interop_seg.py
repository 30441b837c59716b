"""What viewers and archives need of a SEG: one test per row of docs/interop.md, named after it."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from services.reporting.kinds.registry import KINDS
from services.reporting.kinds.report.names import KEY_SLICE
from services.reporting.kinds.segmentation.names import KEEP_EMPTY_FRAMES as KEEP
from services.reporting.kinds.segmentation.names import SEG
from services.reporting.kinds.segmentation.writing import encode_segmentation
from services.reporting.objects.forms import PLAIN
from services.reporting.objects.naming import series_description
from services.reporting.source.modules import PATIENT_AND_STUDY, raw_bytes
from tests.builders.forms import form_of
from tests.builders.reporting import (
    analysis_of,
    blobs,
    brain_manifest,
    series_in,
    three_segments,
)
from tests.builders.series import affine_of, edit, headers_of, small_volume, sound_series
from tests.unit.reporting.conftest import Written, write
from tests.unit.reporting.reading import frames, write_to

SHAPE = (7, 12, 10)


def test_r1_binary_segmentation_has_the_segmentation_sop_class(one: Written) -> None:
    assert one.seg().SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert one.seg().SegmentationType == "BINARY"


def test_r2_transfer_syntax_is_explicit_vr_little_endian(one: Written) -> None:
    assert one.seg().file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def test_r3_pixels_are_not_compressed(one: Written) -> None:
    seg = one.seg()
    bits = int(seg.NumberOfFrames) * seg.Rows * seg.Columns
    assert len(seg.PixelData) == (bits + 15) // 16 * 2
    assert seg.LossyImageCompression == "00"


def test_r6_study_is_the_sources(one: Written) -> None:
    assert one.seg().StudyInstanceUID == one.source().StudyInstanceUID


def test_r8_source_series_is_referenced_first_with_every_instance(one: Written) -> None:
    series = one.seg().ReferencedSeriesSequence
    assert len(series) == 1
    assert series[0].SeriesInstanceUID == one.source().SeriesInstanceUID
    named = [
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID)
        for item in series[0].ReferencedInstanceSequence
    ]
    sources = [one.source(k) for k in range(len(one.files))]
    assert named == [(each.SOPClassUID, each.SOPInstanceUID) for each in sources]


def test_r9_references_do_not_rest_on_referenced_image_sequence(one: Written) -> None:
    assert "ReferencedImageSequence" not in one.seg()
    assert "ReferencedSeriesSequence" in one.seg()


def test_r12_segments_are_numbered_from_one_without_gaps(several: Written) -> None:
    seg = several.seg()
    assert [item.SegmentNumber for item in seg.SegmentSequence] == [1, 2]
    used = {f.SegmentIdentificationSequence[0].ReferencedSegmentNumber for f in frames(seg)}
    assert used == {1, 2}


def test_r13_structures_keep_their_codes_when_numbers_shift(several: Written) -> None:
    types = [item.SegmentedPropertyTypeCodeSequence[0] for item in several.seg().SegmentSequence]
    assert [code.CodeValue for code in types] == ["12738006", "15926001"]
    assert list(several.analysis.numbers_in_object.items()) == [(1, 1), (3, 2)]


def test_r14_single_segment_is_identified_in_every_frame(one: Written) -> None:
    seg = one.seg()
    assert "SegmentIdentificationSequence" not in seg.SharedFunctionalGroupsSequence[0]
    for frame in frames(seg):
        assert frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1


def test_r27_a_structure_that_was_not_found_has_no_segment(several: Written) -> None:
    labels = [item.SegmentLabel for item in several.seg().SegmentSequence]
    assert labels == ["Brain", "Brainstem"]


def test_r32_segments_are_said_not_to_overlap(several: Written) -> None:
    assert several.seg().SegmentsOverlap == "NO"


def test_r34_every_object_has_a_series_of_its_own(several: Written) -> None:
    job = several.analysis.job.job_uid
    made = {
        kind.names.series_uid(job, form)
        for kind in KINDS
        for form in (PLAIN, form_of("keep_empty_frames"))
    }
    assert len(made) == 4
    assert several.source().SeriesInstanceUID not in made
    assert several.seg().SeriesInstanceUID in made


def test_r35_algorithm_is_automatic_and_named(several: Written) -> None:
    for item in several.seg().SegmentSequence:
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert item.SegmentAlgorithmName == "Brain extraction"
        algorithm = item.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (
            "Brain extraction",
            brain_manifest().version,
        )
        family = algorithm.AlgorithmFamilyCodeSequence[0]
        assert (family.CodeValue, family.CodingSchemeDesignator) == ("123110", "DCM")


def test_r36_labels_are_unique_and_short(several: Written) -> None:
    labels = [item.SegmentLabel for item in several.seg().SegmentSequence]
    assert len(set(labels)) == len(labels)
    assert all(0 < len(label) <= 64 for label in labels)


def test_r37_structures_are_coded_in_snomed_with_category_type_and_region(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    analysis = analysis_of(files, blobs(SHAPE, (2,)), three_segments())
    seg = pydicom.dcmread(write_to(tmp_path, write(files, analysis).segmentation))
    item = seg.SegmentSequence[0]
    category = item.SegmentedPropertyCategoryCodeSequence
    kind = item.SegmentedPropertyTypeCodeSequence
    region = item.AnatomicRegionSequence
    assert [len(each) for each in (category, kind, region)] == [1, 1, 1]
    assert {each[0].CodingSchemeDesignator for each in (category, kind, region)} == {"SCT"}
    assert category[0].CodeValue == "123037004"
    assert (kind[0].CodeValue, kind[0].CodeMeaning) == ("113305005", "Cerebellum")
    assert region[0].CodeValue == "12738006"


def test_r38_every_segment_has_its_own_stable_colour(several: Written) -> None:
    colours = [tuple(item.RecommendedDisplayCIELabValue) for item in several.seg().SegmentSequence]
    assert colours == [brain_manifest().segments[0].colour_cielab, (50000, 20000, 40000)]


def test_r40_series_description_names_model_version_and_structure(one: Written) -> None:
    assert one.seg().SeriesDescription == "Brain extraction 1.0.0: Brain segmentation"


def test_r40_series_description_fits_whatever_the_model_finds() -> None:
    labels = [f"Structure number {n}" for n in range(30)]
    text = series_description(three_segments(), SEG.called, labels, revision=12)
    assert text == "Brain extraction 1.0.0 segmentation (rev. 12)"
    assert len(text) <= 64


def test_r41_series_number_is_given_and_differs_between_kinds_and_forms(one: Written) -> None:
    assert one.seg().SeriesNumber == 9000
    forms = [form_of(), form_of(KEEP), form_of(KEY_SLICE), form_of(KEEP, KEY_SLICE)]
    numbers = {
        kind.names.series_number(9000, rank, form)
        for rank in range(3)
        for kind in KINDS
        for form in forms
    }
    assert len(numbers) == 3 * (2 + 4)


def test_r42_content_label_is_a_code_string_and_the_creator_a_name(one: Written) -> None:
    seg = one.seg()
    assert seg.ContentLabel == "BRAIN_EXTRACTION"
    assert seg.ContentDescription == "Brain extraction"
    assert str(seg.ContentCreatorName) == "Axial^"


def test_r43_equipment_is_complete(one: Written) -> None:
    for keyword in (
        "Manufacturer",
        "ManufacturerModelName",
        "DeviceSerialNumber",
        "SoftwareVersions",
    ):
        assert one.seg()[keyword].value, keyword


def test_r44_patient_and_study_are_the_sources_bytes(one: Written) -> None:
    for written in (one.seg, one.sr):
        for keyword in PATIENT_AND_STUDY:
            source = pydicom.dcmread(one.files[0])
            if keyword in source and source[keyword].VR != "SQ":
                source = pydicom.dcmread(one.files[0])
                assert raw_bytes(written(), keyword) == raw_bytes(source, keyword), keyword


def test_r44_an_anonymised_source_gets_empty_attributes_not_invented_ones(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    gone = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber",
            "StudyID", "StudyDate", "StudyTime")  # fmt: skip
    for file in files:
        edit(file, **dict.fromkeys(gone))
    written = write(files, analysis_of(files, blobs(SHAPE)))
    for dataset in (written.seg(), written.sr()):
        for keyword in gone:
            assert keyword in dataset
            assert not dataset[keyword].value


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "M\xfcller^J\xf6rg".encode("latin-1")),
        ("ISO_IR 192", "Łukasz^Żółć".encode()),
        (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        # Declared wrongly: bytes that the declared set cannot hold leave as they came.
        ("ISO_IR 192", b"M\xfcller^J\xf6rg"),
        (None, b"M\xfcller^J\xf6rg"),
    ],
)
def test_r45_names_keep_their_bytes_and_their_character_set(
    tmp_path: Path, character_set: str | list[str] | None, name: bytes
) -> None:
    files = series_in(tmp_path, "axial")
    padded = name + b" " * (len(name) % 2)
    for file in files:
        edit(file, SpecificCharacterSet=character_set, PatientName="@" * len(padded))
        content = file.read_bytes()
        assert content.count(b"@" * len(padded)) == 1
        file.write_bytes(content.replace(b"@" * len(padded), padded))
    written = write(files, analysis_of(files, blobs(SHAPE)))
    for dataset in (written.seg(), written.sr()):
        assert raw_bytes(dataset, "PatientName") == name
        assert dataset.get("SpecificCharacterSet") == character_set


def test_r45_an_implicit_source_is_copied_too(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        data = pydicom.dcmread(file)
        data.SpecificCharacterSet = "ISO_IR 100"
        data.PatientName = "Müller^Jörg"
        data.PregnancyStatus = 4
        data.PatientWeight = "70.50"
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        data.save_as(file, implicit_vr=True, little_endian=True)
    written = write(files, analysis_of(files, blobs(SHAPE)))
    seg = written.seg()
    assert raw_bytes(seg, "PatientName") == "Müller^Jörg".encode("latin-1")
    assert raw_bytes(seg, "PatientWeight") == b"70.50"
    assert seg.PregnancyStatus == 4


def test_r46_tracking_identifier_and_uid_are_the_reports(several: Written) -> None:
    tracked = {item.TrackingUID: item.TrackingID for item in several.seg().SegmentSequence}
    assert len(tracked) == 2
    groups = [
        group.ContentSequence
        for container in several.sr().ContentSequence
        if container.ConceptNameCodeSequence[0].CodeValue == "126010"
        for group in container.ContentSequence
    ]
    reported = {items[1].UID: items[0].TextValue for items in groups}
    assert tracked.items() <= reported.items()


def test_r49_only_the_selected_instances_are_referenced(tmp_path: Path) -> None:
    """A scout that lies in the same folder and study does not slip in."""
    files = series_in(tmp_path / "series", "axial")
    sound_series(tmp_path / "scout", small_volume((2, 8, 8), affine_of()), seed="one")
    seg = pydicom.dcmread(
        write_to(tmp_path, write(files, analysis_of(files, blobs(SHAPE))).segmentation)
    )
    named = {
        item.ReferencedSOPInstanceUID
        for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert named == {header.sop_instance_uid for header in headers_of(files)}


def test_r50_body_part_and_position_reference_are_there(one: Written) -> None:
    assert one.seg().BodyPartExamined == one.source().BodyPartExamined
    assert "PositionReferenceIndicator" in one.seg()


def test_r50_an_empty_laterality_is_not_copied(tmp_path: Path) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, Laterality="", BodyPartExamined="")
    seg = write(files, analysis_of(files, blobs(SHAPE))).seg()
    assert "Laterality" not in seg
    assert "BodyPartExamined" not in seg


def test_the_same_work_writes_the_same_bytes(one: Written) -> None:
    assert encode_segmentation(one.analysis, PLAIN, 9000) == one.segmentation


def test_another_job_writes_other_uids_on_the_same_labels(one: Written) -> None:
    other = replace(one.analysis, job=replace(one.analysis.job, job_uid="1.2.3.4"))
    seg = pydicom.dcmread(BytesIO(encode_segmentation(other, PLAIN, 9000)))
    assert seg.SOPInstanceUID != one.seg().SOPInstanceUID
    assert seg.PixelData == one.seg().PixelData

"""What scanners write that the standard does not allow: results leave all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset

from services.reporting.errors import ReportingError
from services.reporting.source.validity import has_valid, is_valid_value
from tests.builders.malformed import malformed_values
from tests.builders.reporting import blobs, series_in, workplace
from tests.builders.series import as_sent, raw

SHAPE = (7, 12, 10)
MANUFACTURER = {"Manufacturer": b"ACME"}
LONG = b"x" * 66


def put(file: Path, sent: dict[str, bytes]) -> None:
    """Puts values into a file as bytes, sound or not."""
    for keyword, value in sent.items():
        tag = tag_for_keyword(keyword) or 0
        as_sent(file, tag, dictionary_VR(tag), value + b" " * (len(value) % 2))


def objects(folder: Path, change: Callable[[Path], None]) -> list[pydicom.FileDataset]:
    """The SEG and the SR of a series whose files were changed, as they were registered."""
    files = series_in(folder / "series", "axial", SHAPE)
    for file in files:
        change(file)
    place = workplace(folder, files)
    try:
        made = place.make(place.job(blobs(SHAPE)))
    finally:
        place.engine.dispose()
    assert made.withholding is None, made.withholding
    return [pydicom.dcmread(place.store.path(result.store_key)) for result in made.results]


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "Equipment"
    return item


def equipment(**attributes: Any) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("keyword", "sent"),
    [
        ("BodyPartExamined", b"Head"),
        ("BodyPartExamined", b"HEAD/NECK"),
        ("BodyPartExamined", b"HEAD AND NECK AND ORBIT"),
        ("BodyPartExamined", b"HEAD\\NECK"),
        ("Laterality", b"Left"),
        ("Laterality", b"B"),
        ("PositionReferenceIndicator", LONG),
    ],
)
def test_an_invalid_attribute_of_the_series_is_left_out(
    tmp_path: Path, keyword: str, sent: bytes
) -> None:
    seg, _ = objects(tmp_path, lambda file: put(file, {keyword: sent}))
    assert not seg.get(keyword)
    assert "PositionReferenceIndicator" in seg  # type 2: empty, not absent


@pytest.mark.parametrize("side", [b"L", b"R"])
def test_a_side_is_copied(tmp_path: Path, side: bytes) -> None:
    """dciodvfy takes it for an error in a SEG, whatever the body part."""
    sent = {"BodyPartExamined": b"KNEE", "Laterality": side}
    seg, _ = objects(tmp_path, lambda file: put(file, sent))
    assert (seg.BodyPartExamined, seg.Laterality) == ("KNEE", side.decode())


@pytest.mark.parametrize(
    ("keyword", "sent"),
    [
        ("StationName", b"MR-STATION-HOUSE-B-3"),
        ("InstitutionName", LONG),
        ("InstitutionName", b"one\ntwo"),
        ("InstitutionName", b"one\\two"),
        ("SoftwareVersions", b"1.0\\" + LONG),
        ("DeviceSerialNumber", LONG),
        ("DeviceUID", b"1.2.03"),
    ],
)
def test_an_invalid_attribute_of_the_scanner_is_left_out(
    tmp_path: Path, keyword: str, sent: bytes
) -> None:
    for dataset in objects(tmp_path, lambda file: put(file, {**MANUFACTURER, keyword: sent})):
        scanner, _ = dataset.ContributingEquipmentSequence
        assert scanner.Manufacturer == "ACME"
        assert keyword not in scanner


def test_a_scanner_without_a_valid_manufacturer_is_not_named(tmp_path: Path) -> None:
    for dataset in objects(tmp_path, lambda file: put(file, {"Manufacturer": LONG})):
        (algorithm,) = dataset.ContributingEquipmentSequence
        assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_an_unknown_character_set_names_no_institution(tmp_path: Path) -> None:
    sent = {"SpecificCharacterSet": b"UTF8", "InstitutionName": "Köln".encode()}
    for dataset in objects(tmp_path, lambda file: put(file, {**MANUFACTURER, **sent})):
        assert "InstitutionName" not in dataset.ContributingEquipmentSequence[0]


def test_texts_of_the_scanner_keep_their_bytes(tmp_path: Path) -> None:
    """Also where the declared character set cannot express them."""
    institution = b"K\xf6ln"
    sent = {"SpecificCharacterSet": b"ISO_IR 192", "InstitutionName": institution}
    for dataset in objects(tmp_path, lambda file: put(file, {**MANUFACTURER, **sent})):
        scanner = dataset.ContributingEquipmentSequence[0]
        assert scanner.get_item("InstitutionName").value == institution


@pytest.mark.parametrize(
    ("sent", "written"),
    [
        ({"AcquisitionDate": b"2024.01.05", "AcquisitionTime": b"10:11:12"}, None),
        ({"AcquisitionDateTime": b"2024-01-05T10:11:12"}, None),
        ({"AcquisitionDateTime": b"20240231101112"}, None),
        ({"AcquisitionDate": b"20240105", "AcquisitionTime": b"10:11:12"}, "20240105"),
        ({"AcquisitionDateTime": b"junk", "AcquisitionDate": b"20240105"}, "20240105"),
        ({"AcquisitionDateTime": b"20240105101112.5"}, "20240105101112.5"),
    ],
)
def test_the_scanner_contributed_at_a_time_that_exists_or_at_none(
    tmp_path: Path, sent: dict[str, bytes], written: str | None
) -> None:
    for dataset in objects(tmp_path, lambda file: put(file, {**MANUFACTURER, **sent})):
        assert dataset.ContributingEquipmentSequence[0].get("ContributionDateTime") == written


@malformed_values
def test_equipment_of_the_source_is_handed_on_only_when_it_is_sound(tmp_path: Path) -> None:
    sound = equipment(Manufacturer="Gateway", PurposeOfReferenceCodeSequence=[code("109103")])
    unnamed = equipment(PurposeOfReferenceCodeSequence=[code("109104")])
    aimless = equipment(Manufacturer="Gateway")
    uncoded = equipment(Manufacturer="Gateway", PurposeOfReferenceCodeSequence=[Dataset()])
    too_long = equipment(Manufacturer="Gateway", PurposeOfReferenceCodeSequence=[code("109105")])
    too_long[0x00081010] = raw(0x00081010, "SH", b"MR-STATION-HOUSE-B-3")

    def change(file: Path) -> None:
        data = pydicom.dcmread(file)
        data.ContributingEquipmentSequence = [sound, unnamed, aimless, uncoded, too_long]
        data.save_as(file)

    for dataset in objects(tmp_path, change):
        items = dataset.ContributingEquipmentSequence
        codes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in items]
        assert codes == ["109103", "109102"]


@pytest.mark.parametrize("sent", [b"2,5", b"NaN", b"inf", b"1_0", b"2.5\\2.5"])
def test_a_slice_thickness_that_is_no_number_is_left_out(tmp_path: Path, sent: bytes) -> None:
    seg, _ = objects(tmp_path, lambda file: put(file, {"SliceThickness": sent}))
    measures = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert "SliceThickness" not in measures
    assert measures.SpacingBetweenSlices > 0


@malformed_values
@pytest.mark.parametrize(
    "uids",
    [
        {},
        {"Class": "1.2.3"},
        {"Class": "", "Instance": ""},
        {"Class": "1.2", "Instance": "1.02"},
    ],
)
def test_a_performed_procedure_step_without_its_uids_is_not_referenced(
    tmp_path: Path, uids: dict[str, str]
) -> None:
    step = Dataset()
    for name, uid in uids.items():
        tag = tag_for_keyword(f"ReferencedSOP{name}UID") or 0
        step[tag] = raw(tag, "UI", uid.encode() + b"\0" * (len(uid) % 2))

    def change(file: Path) -> None:
        data = pydicom.dcmread(file)
        data.ReferencedPerformedProcedureStepSequence = [step]
        data.save_as(file)

    _, report = objects(tmp_path, change)
    assert len(report.ReferencedPerformedProcedureStepSequence) == 0


@malformed_values
@pytest.mark.parametrize(
    "keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_uids_with_leading_zeros_do_not_withhold(tmp_path: Path, keyword: str) -> None:
    def change(file: Path) -> None:
        data = pydicom.dcmread(file)
        last = data[keyword].value.split(".")[-1][:20] if keyword == "SOPInstanceUID" else "5"
        sent = f"1.2.840.0099.{last}".encode()
        sent += b"\0" * (len(sent) % 2)
        tag = tag_for_keyword(keyword) or 0
        data[tag] = raw(tag, "UI", sent)
        if keyword == "SOPInstanceUID":
            data.file_meta[0x00020003] = raw(0x00020003, "UI", sent)
        data.save_as(file)

    for dataset in objects(tmp_path, change):
        assert dataset.SOPInstanceUID.is_valid


def test_a_damaged_sequence_fails_for_good(tmp_path: Path) -> None:
    """pydicom raises OSError for it, which elsewhere means that trying again may help."""
    sent = b"\xfe\xff\x00\xe0"  # an item's tag, and no more

    def change(file: Path) -> None:
        as_sent(file, 0x00081111, "SQ", sent)

    with pytest.raises(ReportingError, match="the encoder does not take") as raised:
        objects(tmp_path, change)
    assert not raised.value.retryable
    assert isinstance(raised.value.__cause__, OSError)


def test_lengths_are_judged_without_decoding() -> None:
    source = Dataset()
    source[0x00080080] = raw(0x00080080, "LO", b"\x1b$B;3ED\x1b(B")
    assert has_valid(source, "InstitutionName")
    assert not has_valid(source, "Manufacturer")
    assert is_valid_value("DT", "2024")
    assert not is_valid_value("DT", "")

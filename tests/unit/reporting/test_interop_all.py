"""Rows of docs/interop.md that hold for every object: file meta, equipment, times."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from services.common.identity import IMPLEMENTATION_CLASS_UID
from services.reporting.objects.naming import device_uid
from tests.builders.reporting import analysis_of, blobs, brain_manifest, series_in
from tests.builders.series import edit
from tests.unit.reporting.conftest import Written, write

SHAPE = (7, 12, 10)
Read = Callable[[Written], pydicom.FileDataset]


@pytest.fixture(params=["SEG", "SR"])
def read(request: pytest.FixtureRequest) -> Read:
    """Reads one kind of object."""
    return Written.seg if request.param == "SEG" else Written.sr


def test_n3_file_meta_names_our_own_implementation(one: Written, read: Read) -> None:
    meta = read(one).file_meta
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPInstanceUID == read(one).SOPInstanceUID


def test_n4_equipment_is_the_scanner_and_then_the_algorithm(tmp_path: Path, read: Read) -> None:
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(
            file,
            Manufacturer="ACME",
            ManufacturerModelName="Magnet 3",
            DeviceSerialNumber="7",
            SoftwareVersions=["1.0", "b"],
            AcquisitionDate="20240131",
            AcquisitionTime="142530.5",
        )
    scanner, algorithm = read(write(files, analysis_of(files, blobs(SHAPE)))).get(
        "ContributingEquipmentSequence"
    )
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("ACME", "Magnet 3")
    assert list(scanner.SoftwareVersions) == ["1.0", "b"]
    assert scanner.ContributionDateTime == "20240131142530.5"
    assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"


def test_n4_equipment_that_the_source_names_is_kept(tmp_path: Path, read: Read) -> None:
    gateway = pydicom.Dataset()
    gateway.Manufacturer = "Gateway"
    gateway.PurposeOfReferenceCodeSequence = [pydicom.Dataset()]
    code = gateway.PurposeOfReferenceCodeSequence[0]
    code.CodeValue, code.CodingSchemeDesignator = "109103", "DCM"
    code.CodeMeaning = "Modifying Equipment"
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, ContributingEquipmentSequence=[gateway], Manufacturer=None)
    made = read(write(files, analysis_of(files, blobs(SHAPE)))).ContributingEquipmentSequence
    codes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in made]
    assert codes == ["109103", "109102"]


def test_air_1_the_algorithms_item_is_complete(one: Written, read: Read) -> None:
    item = read(one).ContributingEquipmentSequence[-1]
    for keyword in (
        "PurposeOfReferenceCodeSequence",
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "DeviceUID",
    ):
        assert item[keyword].value, keyword
    assert item.DeviceUID == device_uid(brain_manifest().digest)
    assert b"Newcode" not in one.segmentation + one.report


def test_n5_times_are_the_start_of_the_analysis_with_its_offset(one: Written, read: Read) -> None:
    dataset = read(one)
    for name in ("Content", "Series", "InstanceCreation"):
        assert dataset[f"{name}Date"].value == "20240131"
        assert dataset[f"{name}Time"].value == "150405.678900"
    assert dataset.TimezoneOffsetFromUTC == "+0100"


def test_n5_times_are_in_the_sources_zone_where_it_names_one(tmp_path: Path, read: Read) -> None:
    """One offset holds for all times of an object, the copied ones included."""
    files = series_in(tmp_path, "axial")
    for file in files:
        edit(file, TimezoneOffsetFromUTC="-0500")
    dataset = read(write(files, analysis_of(files, blobs(SHAPE))))
    assert dataset.TimezoneOffsetFromUTC == "-0500"
    assert (dataset.ContentDate, dataset.ContentTime) == ("20240131", "090405.678900")


def test_air_3_content_time_is_not_the_time_of_writing(one: Written, read: Read) -> None:
    assert read(one).ContentDate == one.analysis.job.analysis_started.strftime("%Y%m%d")


def test_n6_no_structure_is_named_like_what_viewers_hide() -> None:
    """Weasis hides segmentations by words such as body and skin."""
    for segment in brain_manifest().segments:
        assert not {"body", "skin", "external"} & set(segment.label.lower().split())

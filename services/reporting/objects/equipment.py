"""Who made an object: the equipment modules and the contributing equipment (PS3.3 C.12.1.1.5)."""

from __future__ import annotations

import datetime as dt
from copy import deepcopy
from importlib.metadata import version

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from services.reporting.job import Job
from services.reporting.objects.coding import code_item
from services.reporting.objects.naming import device_uid
from services.reporting.objects.texts import ascii_text, datetime_text
from services.reporting.source.modules import copy_element, keep_bytes
from services.reporting.source.validity import (
    character_sets,
    has_valid,
    is_valid_equipment,
    is_valid_value,
    items_of,
    text_sent,
)

MANUFACTURER = "Axial"
MODEL_NAME = "Axial"
AXIAL_VERSION = version("axial")

_FROM_ACQUISITION = (
    "Manufacturer",
    "InstitutionName",
    "InstitutionAddress",
    "StationName",
    "InstitutionalDepartmentName",
    "ManufacturerModelName",
    "DeviceSerialNumber",
    "SoftwareVersions",
    "DeviceUID",
)


def serial_number(job: Job) -> str:
    """DeviceSerialNumber: the build of the model, by the beginning of its digest."""
    return job.model_digest[:16]


def contributing_equipment(job: Job, source: Dataset, started: dt.datetime) -> list[Dataset]:
    """Items of ContributingEquipmentSequence: what the source names, the scanner, the algorithm.

    Items of the source that are incomplete or hold an invalid value are left out, and so is the
    scanner where its Manufacturer, which an item must have, is not valid.

    The purpose of the algorithm's item is the standard's own code for processing equipment; the
    placeholder of the AI Results supplement's draft is not used.

    Args:
        source: the first source instance, as read from its file.
        started: when the analysis began.
    """
    declared = character_sets(source)
    items = [
        deepcopy(item)
        for item in items_of(source, "ContributingEquipmentSequence")
        if is_valid_equipment(item, declared)
    ]
    if has_valid(source, "Manufacturer"):
        items.append(_acquisition(source))
    items.append(_algorithm(job, started))
    return items


def _acquisition(source: Dataset) -> Dataset:
    item = Dataset()
    for keyword in _FROM_ACQUISITION:
        if has_valid(source, keyword):
            copy_element(source, item, keyword)
    acquired = _acquired(source)
    if acquired:
        item.ContributionDateTime = acquired
    item.ContributionDescription = "Acquisition equipment of the source images"
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
    keep_bytes(item)
    return item


def _acquired(source: Dataset) -> str:
    """When the images were acquired, as a DT; empty where the source tells none that is valid."""
    moment, date, time = (
        text_sent(source, f"Acquisition{part}") for part in ("DateTime", "Date", "Time")
    )
    candidates = (moment, *([f"{date}{time}", date] if date else []))
    return next((each for each in candidates if is_valid_value("DT", each)), "")


def _algorithm(job: Job, started: dt.datetime) -> Dataset:
    identity = job.manifest.identity
    item = Dataset()
    item.Manufacturer = ascii_text(identity.manufacturer, 64)
    item.ManufacturerModelName = ascii_text(identity.title, 64)
    item.DeviceSerialNumber = serial_number(job)
    item.DeviceUID = device_uid(job.model_digest)
    item.SoftwareVersions = [identity.version, f"{MODEL_NAME} {AXIAL_VERSION}"]
    item.ContributionDateTime = datetime_text(started)
    item.ContributionDescription = ascii_text(f"Algorithm {identity.name}", 1024)
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.ProcessingEquipment)]
    return item

"""Who made an object: the equipment modules and the contributing equipment (PS3.3 C.12.1.1.5)."""

from __future__ import annotations

import datetime as dt
from copy import deepcopy
from importlib.metadata import version

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from services.reporting.coding import code_item
from services.reporting.job import Job
from services.reporting.modules import copy_element, keep_bytes
from services.reporting.naming import device_uid
from services.reporting.texts import ascii_text, datetime_text

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

    The purpose of the algorithm's item is the standard's own code for processing equipment; the
    placeholder of the AI Results supplement's draft is not used.

    Args:
        source: the first source instance, as read from its file.
        started: when the analysis began.
    """
    items = [deepcopy(item) for item in source.get("ContributingEquipmentSequence") or []]
    if source.get("Manufacturer"):
        items.append(_acquisition(source))
    items.append(_algorithm(job, started))
    return items


def _acquisition(source: Dataset) -> Dataset:
    item = Dataset()
    for keyword in _FROM_ACQUISITION:
        if source.get(keyword):
            copy_element(source, item, keyword)
    acquired = str(source.get("AcquisitionDateTime") or "") or (
        f"{source.get('AcquisitionDate') or ''}{source.get('AcquisitionTime') or ''}"
        if source.get("AcquisitionDate")
        else ""
    )
    if acquired:
        item.ContributionDateTime = acquired
    item.ContributionDescription = "Acquisition equipment of the source images"
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.AcquisitionEquipment)]
    keep_bytes(item)
    return item


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

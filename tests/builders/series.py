"""Sound series: a small volume written as classic MR, and helpers to read it back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from services.common.headers import InstanceHeader, read_registration
from services.common.identity import derived_uid
from services.common.store import StudyStore, instance_key
from services.imaging import SeriesAttributes, Volume, write_mr_series

# Marks that must never appear in logs, metrics or traces.
PATIENT_NAME = "Zebra^Quagga"
PATIENT_ID = "PID-OKAPI-17"

AXIAL = np.eye(3)
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
CORONAL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def affine_of(
    directions: NDArray[np.float64] = AXIAL,
    voxel_mm: Sequence[float] = (0.9, 1.1, 2.5),
    origin_mm: Sequence[float] = (-31.25, 12.5, -40.0),
) -> NDArray[np.float64]:
    """An affine from unit vectors along i, j, k (columns), voxel size and the first voxel."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.asarray(voxel_mm)
    affine[:3, 3] = origin_mm
    return affine


def small_volume(
    shape: tuple[int, int, int] = (7, 12, 10),
    affine: NDArray[np.float64] | None = None,
    seed: int = 1,
) -> Volume:
    """A volume in which every voxel can be told from its neighbours."""
    array = np.random.default_rng(seed).integers(0, 4096, shape).astype(np.float32)
    return Volume(array, affine_of() if affine is None else affine)


def attributes_of(seed: str = "one", **changes: Any) -> SeriesAttributes:
    """Attributes of a series; everything with one seed is one study."""
    given: dict[str, Any] = {
        "study_uid": derived_uid("test", seed, "study"),
        "series_uid": derived_uid("test", seed, "series"),
        "frame_of_reference_uid": derived_uid("test", seed, "frame"),
        "patient_name": PATIENT_NAME,
        "patient_id": PATIENT_ID,
        "patient_birth_date": "19500101",
        "patient_sex": "O",
        "study_id": "S1",
        "study_date": "20240131",
        "study_time": "142530",
        "accession_number": "A1",
        "series_description": "T1 MPRAGE",
        "body_part_examined": "HEAD",
        "patient_position": "HFS",
        "mr_acquisition_type": "3D",
    }
    return SeriesAttributes(**{**given, **changes})


def sound_series(folder: Path, volume: Volume | None = None, seed: str = "one") -> list[Path]:
    """A series without any fault; one file per plane."""
    return write_mr_series(volume or small_volume(), folder, attributes_of(seed))


def edit(file: Path, **attributes: Any) -> Path:
    """Changes attributes of a file; None takes one out."""
    data = pydicom.dcmread(file)
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    if "SOPInstanceUID" in attributes:
        data.file_meta.MediaStorageSOPInstanceUID = attributes["SOPInstanceUID"]
    data.save_as(file)
    return file


def as_sent(file: Path, tag: int, vr: str, value: bytes) -> Path:
    """Puts a value's bytes into a file's data set as they are, sound or not."""
    data = pydicom.dcmread(file)
    data[tag] = raw(tag, vr, value)
    data.save_as(file)
    return file


def raw(tag: int, vr: str, value: bytes) -> RawDataElement:
    """An element that the library has not looked at."""
    return RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def headers_of(files: Sequence[Path]) -> list[InstanceHeader]:
    """What registration would keep of the files."""
    return [read_registration(file.read_bytes()).header for file in files]


def stored(store: StudyStore, files: Sequence[Path]) -> list[InstanceHeader]:
    """Puts the files where the listener would, and returns their kept headers."""
    headers = headers_of(files)
    for header, file in zip(headers, files, strict=True):
        key = instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)
        store.put(key, [file.read_bytes()])
    return headers

"""A `Volume` as a classic MR series: one instance per plane (PS3.3 A.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import PersonName, format_number_as_ds

from services.common.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_uid,
)
from services.imaging.errors import ImagingError
from services.imaging.volume import Volume

# The columns of an affine stand at right angles, and their directions are unit vectors, within
# what floating-point arithmetic and NIfTI's single-precision affines lose.
_RIGHT_ANGLE_TOLERANCE = 1e-4
_MOST_STORED = 0xFFFF
# Scanners store 12 bits: viewers' windows and models' intensity steps are used to that range.
_TWELVE_BITS = 4095.0


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """What a written series says about patient, study and series; the caller's responsibility.

    Nothing here is invented: what is empty is written empty. Defined terms (scanning sequence RM,
    "research mode", sequence variant NONE) stand where PS3.3 C.8.3.1 demands a value.

    Attributes:
        study_uid, series_uid, frame_of_reference_uid: given, so that the same call writes the
            same objects.
        study_date, study_time: DA and TM (``20240131``, ``142530``).
        patient_birth_date: DA; patient_sex: M, F, O or empty.
        patient_position: HFS and the like (PS3.3 C.7.3.1.1.2).
        repetition_time_ms, echo_time_ms: None where unknown.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    patient_name: str
    patient_id: str
    patient_birth_date: str = ""
    patient_sex: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    series_number: int = 1
    series_description: str = ""
    protocol_name: str = ""
    body_part_examined: str = ""
    patient_position: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "OTHER")
    scanning_sequence: tuple[str, ...] = ("RM",)
    sequence_variant: tuple[str, ...] = ("NONE",)
    mr_acquisition_type: str = ""
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None


def write_mr_series(volume: Volume, folder: Path, attributes: SeriesAttributes) -> list[Path]:
    """Writes a volume as MR Image Storage instances, Explicit VR Little Endian, uint16.

    Args:
        volume: whole numbers from 0 to 65535 (see `stored_values`); any orientation, also
            oblique and flipped; the affine's columns stand at right angles. `volume.instances`
            are the SOP instance UIDs; without them they derive from the series UID.
        folder: made when missing; files are named ``IM0001.dcm`` ... in plane order.

    Returns:
        The files, one per plane k.

    Raises:
        ImagingError: values or an affine that such a series cannot hold.
    """
    stored = _as_stored(volume.values())
    directions = _directions(volume.affine)
    instances = volume.instances or tuple(
        derived_uid("written", attributes.series_uid, k) for k in range(len(stored))
    )
    common = _series_data_set(volume, directions, attributes)
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for k, uid in enumerate(instances):
        file = folder / f"IM{k + 1:04d}.dcm"
        position = volume.affine[:3, 3] + k * volume.affine[:3, 2]
        _write_instance(common, file, uid, k + 1, position, stored[k])
        files.append(file)
    return files


def stored_values(array: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scales any values linearly to whole numbers from 0 to 4095, as scanners store 12 bits.

    Args:
        array: [k, j, i], any range; values that are not finite become the least one.

    Returns:
        float32 of the same shape; all zero where all values are equal.
    """
    finite = np.isfinite(array)
    least = float(array.min(where=finite, initial=np.inf))
    most = float(array.max(where=finite, initial=-np.inf))
    if not most > least:
        return np.zeros(array.shape, np.float32)
    scaled = np.where(finite, array, least).astype(np.float64)
    scaled = (scaled - least) * (_TWELVE_BITS / (most - least))
    return np.rint(scaled).astype(np.float32)


def _decimal_strings(numbers: Sequence[float]) -> list[str]:
    # As many digits as the 16 characters of a DS hold (PS3.5 6.2); + 0.0 turns -0.0 into 0.0.
    return [format_number_as_ds(number + 0.0) for number in numbers]


def _as_stored(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    if array.size == 0:
        raise ImagingError(f"A volume of shape {array.shape} has no voxels to write.")
    # NaN fails both comparisons.
    if not (array.min() >= 0 and array.max() <= _MOST_STORED):
        raise ImagingError(
            f"Values from {array.min():g} to {array.max():g} do not fit into 16 unsigned bits; "
            "scale them with stored_values first."
        )
    stored = array.astype("<u2")
    if not np.array_equal(stored, array):
        raise ImagingError("The values are no whole numbers; scale them with stored_values first.")
    return stored


def _directions(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    # float64 [3, 3]: unit vectors along i, j, k as columns.
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and lengths.min() > 0):
        raise ImagingError("The affine has an axis without length.")
    directions = affine[:3, :3] / lengths
    if np.abs(directions.T @ directions - np.eye(3)).max() > _RIGHT_ANGLE_TOLERANCE:
        raise ImagingError("The affine is sheared; an MR series has axes at right angles.")
    return directions


def _series_data_set(
    volume: Volume, directions: NDArray[np.float64], attributes: SeriesAttributes
) -> Dataset:
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    _add_patient_and_study(data, attributes)
    _add_series_and_equipment(data, attributes)
    _add_mr_image(data, attributes)
    between_columns, between_rows, between_slices = volume.voxel_mm
    data.PixelSpacing = _decimal_strings([between_rows, between_columns])
    data.SliceThickness = _decimal_strings([between_slices])[0]
    data.SpacingBetweenSlices = _decimal_strings([between_slices])[0]
    data.ImageOrientationPatient = _decimal_strings(directions[:, :2].T.ravel().tolist())
    _, data.Rows, data.Columns = volume.array.shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = 0
    return data


def _add_patient_and_study(data: Dataset, attributes: SeriesAttributes) -> None:
    data.PatientName = PersonName(attributes.patient_name)
    data.PatientID = attributes.patient_id
    data.PatientBirthDate = attributes.patient_birth_date
    data.PatientSex = attributes.patient_sex
    data.StudyInstanceUID = attributes.study_uid
    data.StudyID = attributes.study_id
    data.StudyDate = attributes.study_date
    data.StudyTime = attributes.study_time
    data.StudyDescription = attributes.study_description
    data.AccessionNumber = attributes.accession_number
    data.ReferringPhysicianName = ""


def _add_series_and_equipment(data: Dataset, attributes: SeriesAttributes) -> None:
    data.Modality = "MR"
    data.SeriesInstanceUID = attributes.series_uid
    data.SeriesNumber = attributes.series_number
    for keyword, text in (
        ("SeriesDescription", attributes.series_description),
        ("ProtocolName", attributes.protocol_name),
        ("BodyPartExamined", attributes.body_part_examined),
        ("ManufacturerModelName", attributes.manufacturer_model_name),
    ):
        if text:  # type 3: left out rather than empty
            setattr(data, keyword, text)
    if not attributes.body_part_examined:
        data.Laterality = ""  # type 2C: of a body part that may be one of a pair
    data.PatientPosition = attributes.patient_position
    data.FrameOfReferenceUID = attributes.frame_of_reference_uid
    data.PositionReferenceIndicator = ""
    data.Manufacturer = attributes.manufacturer


def _add_mr_image(data: Dataset, attributes: SeriesAttributes) -> None:
    data.ImageType = list(attributes.image_type)
    data.ScanningSequence = list(attributes.scanning_sequence)
    data.SequenceVariant = list(attributes.sequence_variant)
    data.ScanOptions = ""
    data.MRAcquisitionType = attributes.mr_acquisition_type
    data.RepetitionTime = attributes.repetition_time_ms
    data.EchoTime = attributes.echo_time_ms
    data.EchoTrainLength = None


def _write_instance(
    common: Dataset,
    file: Path,
    uid: str,
    number: int,
    position: NDArray[np.float64],
    pixels: NDArray[np.uint16],
) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    data = Dataset(common)  # shares the elements, has its own table
    data.file_meta = meta
    data.SOPClassUID = MRImageStorage
    data.SOPInstanceUID = uid
    data.InstanceNumber = number
    data.ImagePositionPatient = _decimal_strings(position.tolist())
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(file, enforce_file_format=True)

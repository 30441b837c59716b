"""Parts of a real head CT with made lesions, as series that a scanner could have sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.uid import UID

from services.common.identity import derived_uid

Mm = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Lesion:
    """An ellipsoid along the patient's axes with a rim of its own.

    Attributes:
        centre_mm: LPS.
        radii_mm: of the inner part.
        hu: of the inner part.
        rim_mm, rim_hu: what lies around it.
    """

    centre_mm: Mm
    radii_mm: Mm
    hu: float
    rim_mm: float = 3.0
    rim_hu: float = 20.0

    def paint(self, hu: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Paint into values [j, i] at points [j, i, 3]; returns where the inner part lies."""
        away = points - np.array(self.centre_mm)
        wide = np.array(self.radii_mm) + self.rim_mm
        hu[((away / wide) ** 2).sum(axis=-1) <= 1] = self.rim_hu
        inside = ((away / np.array(self.radii_mm)) ** 2).sum(axis=-1) <= 1
        hu[inside] = self.hu
        return inside


def write_part(
    files: Sequence[Path],
    folder: Path,
    name: str,
    rows: slice,
    columns: slice,
    lesions: Sequence[Lesion],
) -> dict[str, NDArray[np.bool_]]:
    """Write a part of uncompressed CT slices as a study of its own.

    Returns:
        Of each slice, by SOP Instance UID, where the inner parts of lesions lie: bool [j, i].
    """
    folder.mkdir(parents=True)
    painted: dict[str, NDArray[np.bool_]] = {}
    for number, file in enumerate(files, start=1):
        data = pydicom.dcmread(file)
        slope, intercept = float(data.RescaleSlope), float(data.RescaleIntercept)
        part = data.pixel_array[rows, columns]
        hu = part.astype(np.float64) * slope + intercept
        points = _points(data)[rows, columns]
        inside = np.zeros(hu.shape, np.bool_)
        for lesion in lesions:
            inside |= lesion.paint(hu, points)
        changed = np.round((hu - intercept) / slope).astype(part.dtype)
        data.Rows, data.Columns = changed.shape
        data.ImagePositionPatient = [f"{each:.6f}" for each in points[0, 0]]
        data.PixelData = np.ascontiguousarray(changed).tobytes()
        data.StudyInstanceUID = UID(derived_uid("ct head", name))
        data.SeriesInstanceUID = UID(derived_uid("ct head", name, "series"))
        data.SOPInstanceUID = UID(derived_uid("ct head", name, str(number)))
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.InstanceNumber = str(number)
        painted[str(data.SOPInstanceUID)] = inside
        data.save_as(folder / f"{number:03}.dcm")
    return painted


def study_uid(name: str) -> str:
    """The Study Instance UID of a study that `write_part` wrote."""
    return derived_uid("ct head", name)


def _points(data: pydicom.Dataset) -> NDArray[np.float64]:
    """Where a slice's pixels lie: LPS mm [j, i, 3] (PS3.3 C.7.6.2.1.1)."""
    along_row, down = np.array(data.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, data.PixelSpacing)
    j, i = np.meshgrid(np.arange(data.Rows), np.arange(data.Columns), indexing="ij")
    first = np.array(data.ImagePositionPatient, float)
    return (
        first
        + np.multiply.outer(i * between_columns, along_row)
        + np.multiply.outer(j * between_rows, down)
    )

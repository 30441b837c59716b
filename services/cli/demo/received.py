"""What the PACS holds: results read back from its own files, as a receiver sees them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

_SR_CLASS_UID = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True, slots=True)
class ReceivedSegment:
    """A segment as its object describes it.

    Attributes:
        colour: red, green, blue, 0 to 255.
        masks: SOP instance UID of a source slice -> bool [row, column].
    """

    label: str
    colour: tuple[int, int, int]
    masks: dict[str, npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class ReceivedObject:
    """A result object in the PACS."""

    kind: str
    file: Path
    dataset: Dataset


def find_results(folder: Path, uids: set[str]) -> list[ReceivedObject]:
    """The objects with these SOP instance UIDs below `folder`."""
    found: list[ReceivedObject] = []
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            dataset = pydicom.dcmread(file)
        except InvalidDicomError:
            continue
        if str(dataset.get("SOPInstanceUID", "")) in uids:
            kind = {SegmentationStorage: "SEG", _SR_CLASS_UID: "SR"}.get(
                str(dataset.SOPClassUID), str(dataset.get("Modality", "?"))
            )
            found.append(ReceivedObject(kind, file, dataset))
    return found


def read_segments(seg: Dataset) -> list[ReceivedSegment]:
    """The segments of a BINARY SEG, every frame by the source instance it names (PS3.3 A.51)."""
    frames = np.asarray(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns).astype(bool)
    masks: dict[int, dict[str, npt.NDArray[np.bool_]]] = {}
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        source = groups.DerivationImageSequence[0].SourceImageSequence[0]
        masks.setdefault(number, {})[str(source.ReferencedSOPInstanceUID)] = frame
    return [
        ReceivedSegment(
            str(item.SegmentLabel),
            _rgb(item.RecommendedDisplayCIELabValue),
            masks.get(int(item.SegmentNumber), {}),
        )
        for item in seg.SegmentSequence
    ]


def _rgb(scaled: list[int]) -> tuple[int, int, int]:
    """DICOM-scaled CIELab (PS3.3 C.10.7.1.1) to sRGB, by way of CIE XYZ under D50/D65."""
    lightness = scaled[0] * 100.0 / 65535.0
    a, b = (value * 255.0 / 65535.0 - 128.0 for value in scaled[1:3])
    y = (lightness + 16.0) / 116.0
    white = np.array([0.95047, 1.0, 1.08883])
    f = np.array([y + a / 500.0, y, y - b / 200.0])
    xyz = white * np.where(f > 6.0 / 29.0, f**3, 3.0 * (6.0 / 29.0) ** 2 * (f - 4.0 / 29.0))
    matrix = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    linear = np.clip(matrix @ xyz, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(v) * 255) for v in srgb)
    return red, green, blue

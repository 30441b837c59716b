"""Enhanced multi-frame objects, made of the classic files of one series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
)

from services.common.identity import derived_uid

# Modality -> SOP class and the functional group that holds FrameType.
_KINDS = {
    "CT": (EnhancedCTImageStorage, "CTImageFrameTypeSequence"),
    "MR": (EnhancedMRImageStorage, "MRImageFrameTypeSequence"),
    "PT": (EnhancedPETImageStorage, "PETFrameTypeSequence"),
}
_OF_FRAMES = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "RescaleSlope",
    "RescaleIntercept",
    "EchoTime",
)


def enhanced_of(
    files: Sequence[Path],
    target: Path,
    modality: str = "MR",
    stack_ids: Sequence[str] | None = None,
) -> Path:
    """One enhanced object with the files' images as frames, in their order.

    Orientation and pixel measures are shared, the rest is told per frame.
    """
    classic = [pydicom.dcmread(file) for file in files]
    first = classic[0]
    data = pydicom.dcmread(files[0])
    sop_class, frame_type = _KINDS[modality]
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = sop_class
    data.SOPInstanceUID = derived_uid("test", "enhanced", str(target))
    data.file_meta.MediaStorageSOPInstanceUID = UID(data.SOPInstanceUID)
    data.Modality = modality
    for keyword in _OF_FRAMES:
        data.pop(keyword, None)
    data.NumberOfFrames = len(classic)
    data.PixelData = b"".join(each.PixelData for each in classic)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(first, "ImageOrientationPatient")
    shared.PixelMeasuresSequence = _item(first, "PixelSpacing", "SliceThickness")
    data.SharedFunctionalGroupsSequence = Items([shared])
    stacks = stack_ids or ["1"] * len(classic)
    data.PerFrameFunctionalGroupsSequence = Items(
        [_frame(each, frame_type, stack) for each, stack in zip(classic, stacks, strict=True)]
    )
    data.save_as(target)
    return target


def _frame(classic: Dataset, frame_type: str, stack: str) -> Dataset:
    frame = Dataset()
    frame.PlanePositionSequence = _item(classic, "ImagePositionPatient")
    frame.PixelValueTransformationSequence = _item(classic, "RescaleSlope", "RescaleIntercept")
    kind = Dataset()
    kind.FrameType = classic.ImageType
    setattr(frame, frame_type, Items([kind]))
    content = Dataset()
    content.StackID = stack
    frame.FrameContentSequence = Items([content])
    if classic.get("EchoTime") is not None:
        echo = Dataset()
        echo.EffectiveEchoTime = float(classic.EchoTime)
        frame.MREchoSequence = Items([echo])
    return frame


def _item(source: Dataset, *keywords: str) -> Items:
    item = Dataset()
    for keyword in keywords:
        if keyword in source:
            setattr(item, keyword, source[keyword].value)
    return Items([item])

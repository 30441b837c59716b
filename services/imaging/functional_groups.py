"""Enhanced multi-frame objects: what their functional groups say, frame by frame.

PS3.3 C.7.6.16 (multi-frame functional groups), C.8.13 (MR), C.8.15 (CT), C.8.22 (PET). A frame's
attributes are those of its own groups, then of the shared ones, under the keywords that a classic
image has for them, so that enhanced and classic forms of one acquisition are judged alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

from services.common.headers import PRESENT, AttributeValue, InstanceHeader, codes_of
from services.common.stored_objects import StoredObjectError, bound_of, read_head
from services.imaging.frames import FrameHeader, UnplacedFrames
from services.imaging.transfer_syntaxes import NATIVE_LITTLE_ENDIAN

# (functional group, attribute in its item, keyword of a classic image)
_ATTRIBUTES = (
    ("PlanePositionSequence", "ImagePositionPatient", "ImagePositionPatient"),
    ("PlaneOrientationSequence", "ImageOrientationPatient", "ImageOrientationPatient"),
    ("PixelMeasuresSequence", "PixelSpacing", "PixelSpacing"),
    ("PixelMeasuresSequence", "SliceThickness", "SliceThickness"),
    ("PixelMeasuresSequence", "SpacingBetweenSlices", "SpacingBetweenSlices"),
    ("PixelValueTransformationSequence", "RescaleSlope", "RescaleSlope"),
    ("PixelValueTransformationSequence", "RescaleIntercept", "RescaleIntercept"),
    ("PixelValueTransformationSequence", "RescaleType", "RescaleType"),
    ("MRImageFrameTypeSequence", "FrameType", "ImageType"),
    ("CTImageFrameTypeSequence", "FrameType", "ImageType"),
    ("PETFrameTypeSequence", "FrameType", "ImageType"),
    ("MRImageFrameTypeSequence", "ComplexImageComponent", "ComplexImageComponent"),
    ("MRImageFrameTypeSequence", "AcquisitionContrast", "AcquisitionContrast"),
    ("MREchoSequence", "EffectiveEchoTime", "EchoTime"),
    ("MRTimingAndRelatedParametersSequence", "RepetitionTime", "RepetitionTime"),
    ("MRModifierSequence", "InversionTimes", "InversionTime"),
    ("MRDiffusionSequence", "DiffusionBValue", "DiffusionBValue"),
    ("CTReconstructionSequence", "ConvolutionKernel", "ConvolutionKernel"),
    ("CTXRayDetailsSequence", "KVP", "KVP"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "TriggerTime"),
    ("FrameContentSequence", "StackID", "StackID"),
    ("FrameContentSequence", "TemporalPositionIndex", "TemporalPositionIdentifier"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "AcquisitionNumber"),
)
# EchoPulseSequence -> values of ScanningSequence.
_ECHOES = {"SPIN": ("SE",), "GRADIENT": ("GR",), "BOTH": ("SE", "GR")}
# (attribute of an enhanced object, keyword of a classic image)
_OF_THE_OBJECT = (("PulseSequenceName", "SequenceName"),)
# Dimensions (PS3.3 C.7.6.17) that tell slices of one volume apart, and not volumes.
_DIMENSIONS_OF_PLACE = frozenset(
    Tag(cast(int, tag_for_keyword(keyword)))
    for keyword in ("InStackPositionNumber", "ImagePositionPatient", "PlanePositionSequence")
)
_Get = Callable[[str], Dataset | None]


def read_frames(header: InstanceHeader, file: Path) -> list[FrameHeader]:
    """The frames of an enhanced object, in the order in which they are stored.

    Raises:
        UnplacedFrames: there are no functional groups, or not as many as frames.
        FileNotFoundError: the instance's file is not there.
        Exception: whatever pydicom meets in a damaged object.
    """
    try:
        dataset = read_head(file, header.transfer_syntax_uid, bound_of(header.attributes))
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        shared = list(dataset.get("SharedFunctionalGroupsSequence") or ())
        frames = int(dataset.get("NumberOfFrames") or 1)
    except StoredObjectError as error:
        raise UnplacedFrames(str(error)) from error
    except ValueError as error:
        raise UnplacedFrames("its header cannot be read") from error
    if not groups:
        raise UnplacedFrames("it has no functional groups")
    if len(groups) != frames:
        raise UnplacedFrames(f"it has {frames} frames, but functional groups for {len(groups)}")
    dimensions = _dimensions_of_volumes(dataset)
    sequence = _of_pulse_sequence(dataset)
    length = None if header.pixel_length is None else _frame_length(header)
    return [
        _frame(header, number, {**sequence, **_attributes(group, shared, dimensions)}, length)
        for number, group in enumerate(groups, start=1)
    ]


def _of_pulse_sequence(dataset: Dataset) -> dict[str, AttributeValue]:
    """What classic images call ScanningSequence and SequenceName (PS3.3 C.8.13.4.1, C.8.3.1)."""
    attributes: dict[str, AttributeValue] = {}
    (kind, *_) = codes_of(dataset.get("EchoPulseSequence")) or ("",)
    echoes = _ECHOES.get(kind, ())
    planar = ("EP",) if codes_of(dataset.get("EchoPlanarPulseSequence")) == ("YES",) else ()
    if echoes or planar:
        attributes["ScanningSequence"] = [*echoes, *planar]
    for keyword, classic in _OF_THE_OBJECT:
        value = _texts(dataset.get(keyword))
        if value is not None:
            attributes[classic] = value
    return attributes


def _dimensions_of_volumes(dataset: Dataset) -> tuple[int, ...]:
    """Places in DimensionIndexValues of the dimensions that tell volumes apart."""
    indices = cast("Sequence[Dataset]", dataset.get("DimensionIndexSequence") or ())
    pointers = [cast("BaseTag | None", item.get("DimensionIndexPointer")) for item in indices]
    return tuple(n for n, tag in enumerate(pointers) if tag not in _DIMENSIONS_OF_PLACE)


def _attributes(
    own: Dataset, shared: Iterable[Dataset], dimensions: tuple[int, ...]
) -> dict[str, AttributeValue]:
    items = (own, *shared)

    def get(group: str) -> Dataset | None:
        for item in items:
            sequence = item.get(group)
            if sequence:
                return sequence[0]
        return None

    attributes: dict[str, AttributeValue] = {}
    for group, attribute, keyword in _ATTRIBUTES:
        item = get(group)
        value = None if item is None else _texts(item.get(attribute))
        if value is not None:
            attributes[keyword] = value
    attributes.update(_of_frame_content(get, dimensions))
    diffusion = get("MRDiffusionSequence")
    directions = None if diffusion is None else diffusion.get("DiffusionGradientDirectionSequence")
    if directions:
        value = _texts(directions[0].get("DiffusionGradientOrientation"))
        if value is not None:
            attributes["DiffusionGradientOrientation"] = value
    transformation = get("PixelValueTransformationSequence")
    if transformation is not None and transformation.get("ModalityLUTSequence"):
        attributes["ModalityLUTSequence"] = PRESENT
    return attributes


def _of_frame_content(get: _Get, dimensions: tuple[int, ...]) -> dict[str, AttributeValue]:
    content = get("FrameContentSequence")
    if content is None:
        return {}
    found: dict[str, AttributeValue] = {}
    acquired = _texts(content.get("FrameAcquisitionDateTime"))
    if isinstance(acquired, str) and len(acquired) > 8:
        found["AcquisitionTime"] = acquired[8:]
    values = _texts(content.get("DimensionIndexValues"))
    values = values if isinstance(values, list) else [values or ""]
    if dimensions and len(values) > max(dimensions):
        found["DimensionIndexValues"] = [values[n] for n in dimensions]
    return found


def _texts(value: Any) -> AttributeValue:
    """Values as text, decimal strings with the characters they were sent as."""
    if value is None or value == "":
        return None
    if isinstance(value, (MultiValue, list, tuple)):
        texts = [_as_sent(item) for item in cast("Iterable[object]", value)]
        return (texts[0] if len(texts) == 1 else texts) if texts else None
    return _as_sent(value)


def _as_sent(value: object) -> str:
    original = getattr(value, "original_string", None)
    if original is not None:
        return str(original).strip()
    # As a classic image's decimal string: 30, not 30.0.
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _frame_length(header: InstanceHeader) -> int:
    rows, columns, bits = (
        int((header.numbers(name) or (0,))[0]) for name in ("Rows", "Columns", "BitsAllocated")
    )
    samples = int((header.numbers("SamplesPerPixel") or (1,))[0])
    return rows * columns * samples * bits // 8


def _frame(
    header: InstanceHeader, number: int, own: dict[str, AttributeValue], length: int | None
) -> FrameHeader:
    offset, rest = header.pixel_offset, header.pixel_length
    if (
        header.transfer_syntax_uid in NATIVE_LITTLE_ENDIAN
        and offset is not None
        and rest is not None
        and length is not None
    ):
        before = (number - 1) * length
        offset, rest = offset + before, max(0, min(length, rest - before))
    several = {"SOPInstanceUID": header.sop_instance_uid}
    return FrameHeader(
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        series_uid=header.series_uid,
        study_uid=header.study_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        attributes={**header.attributes, **several, **own},
        pixel_offset=offset,
        pixel_length=rest,
        has_pixels=header.has_pixels,
        frame=number,
    )

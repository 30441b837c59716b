"""The DICOM attributes that a selector may ask for.

An enumerated table rather than "any keyword": what stands here is what the platform stores of
a series when it registers it, so a condition on anything else could never be met and is an
error in the manifest instead of a silent "no match".
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

__all__ = ["SELECTOR_ATTRIBUTES", "AttributeKind", "spoken"]


class AttributeKind(StrEnum):
    """How a value is compared.

    text    free text: compared without regard to case or surrounding blanks
    code    a defined term or UID: compared without regard to case or surrounding blanks
    number  compared as a float
    multi   several defined terms: a condition looks at each of them
    """

    TEXT = "text"
    CODE = "code"
    NUMBER = "number"
    MULTI = "multi"


SELECTOR_ATTRIBUTES: Final[dict[str, AttributeKind]] = {
    "Modality": AttributeKind.CODE,
    "SOPClassUID": AttributeKind.CODE,
    "ImageType": AttributeKind.MULTI,
    "BodyPartExamined": AttributeKind.CODE,
    "SeriesDescription": AttributeKind.TEXT,
    "ProtocolName": AttributeKind.TEXT,
    "SequenceName": AttributeKind.TEXT,
    "ScanningSequence": AttributeKind.MULTI,
    "SequenceVariant": AttributeKind.MULTI,
    # Of MR frames, or of the object (PS3.3 C.8.13.3.1); enhanced objects also fill SequenceName and
    # ScanningSequence, from PulseSequenceName and from EchoPulseSequence and the like.
    "AcquisitionContrast": AttributeKind.CODE,
    "MRAcquisitionType": AttributeKind.CODE,
    "EchoTime": AttributeKind.NUMBER,
    "RepetitionTime": AttributeKind.NUMBER,
    "InversionTime": AttributeKind.NUMBER,
    "EchoNumbers": AttributeKind.NUMBER,
    "DiffusionBValue": AttributeKind.NUMBER,
    "TemporalPositionIdentifier": AttributeKind.NUMBER,
    "ContrastBolusAgent": AttributeKind.TEXT,
    "Manufacturer": AttributeKind.TEXT,
    "ManufacturerModelName": AttributeKind.TEXT,
    "PatientPosition": AttributeKind.CODE,
    "ConvolutionKernel": AttributeKind.MULTI,
    "KVP": AttributeKind.NUMBER,
    # Counted in the series as stored, not an attribute of its instances; of one volume among
    # several, or of frames, its slices.
    "NumberOfInstances": AttributeKind.NUMBER,
    "Laterality": AttributeKind.CODE,
    "PhotometricInterpretation": AttributeKind.CODE,
    "SamplesPerPixel": AttributeKind.NUMBER,
    "StudyDescription": AttributeKind.TEXT,
}


def spoken(keyword: str) -> str:
    """Turn a DICOM keyword into words: "BodyPartExamined" -> "Body part examined"."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]*|[0-9]+", keyword)
    return " ".join(
        word if (len(word) > 1 and word.isupper()) or place == 0 else word.lower()
        for place, word in enumerate(words)
    )

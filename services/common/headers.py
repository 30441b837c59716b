"""What is kept of an instance's header at registration.

The header is read once, when the instance arrives, and stored with it; selection, the geometry
gate and volume loading work on it without opening the file again. Numbers are kept as the
decimal strings they were sent as, so that geometry can be copied digit for digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from models.manifest.attributes import SELECTOR_ATTRIBUTES
from services.common.errors import AxialError
from services.common.header_scan import (
    EXPLICIT_BIG,
    PIXEL_ELEMENTS,
    PRESENT,
    AttributeValue,
    Scheme,
    kept_value,
)
from services.common.stored_objects import Bound, Shown, StoredObjectError, shown
from services.common.telemetry import get_logger

# Attributes that the geometry gate and the loader need, by keyword (PS3.3 C.7.6.2, C.7.6.3,
# C.7.6.16, C.8.2.1, C.8.3.1).
GEOMETRY_KEYWORDS = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "FrameOfReferenceUID",
    "GantryDetectorTilt",
    "InstanceNumber",
    "AcquisitionNumber",
    "AcquisitionTime",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "EchoNumbers",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "BurnedInAnnotation",
)
# How much there is to come, where the sender says so (PS3.4 C.3.4): of the study's instances, of
# its series, of the series' instances.
COUNT_KEYWORDS = (
    "NumberOfStudyRelatedInstances",
    "NumberOfStudyRelatedSeries",
    "NumberOfSeriesRelatedInstances",
)
# Vendors' own elements, by tag, with their VR: private creators, and what they tell of diffusion.
# Of ImageComments only Canon's b-value is kept (`header_scan.kept_value`).
VENDOR_ELEMENTS = {
    "(0019,0010)": (0x00190010, "LO"),
    "(0019,100C)": (0x0019100C, "IS"),
    "(0019,100E)": (0x0019100E, "FD"),
    "(0019,109C)": (0x0019109C, "LO"),
    "(0019,10B3)": (0x001910B3, "DS"),
    "(0019,10BB)": (0x001910BB, "DS"),
    "(0019,10BC)": (0x001910BC, "DS"),
    "(0019,10BD)": (0x001910BD, "DS"),
    "(0043,0010)": (0x00430010, "LO"),
    "(0043,1039)": (0x00431039, "IS"),
    "(0065,0010)": (0x00650010, "LO"),
    "(0065,1009)": (0x00651009, "FD"),
    "(0065,1037)": (0x00651037, "FD"),
    "ImageComments": (0x00204000, "LT"),
}
# Sequences of which only the fact that they are there is kept, as PRESENT: with a modality LUT
# stored values mean what a table says, and no slope and intercept (PS3.3 C.11.1).
_NOTED_SEQUENCES = ("ModalityLUTSequence",)
_STUDY_KEYWORDS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "StudyID",
)
_SERIES_KEYWORDS = ("SeriesNumber", "SeriesDate", "SeriesTime")

_UID_KEYWORDS = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID")


class HeaderError(AxialError):
    """A data set lacks what registration needs, or cannot be read as DICOM."""


@dataclass(frozen=True, slots=True)
class InstanceHeader:
    """The kept header of one instance.

    Attributes:
        attributes: keyword -> value as sent (several values as a list of strings); absent and
            empty attributes are left out. Selector and geometry attributes and counts only, no
            patient data.
            Of ModalityLUTSequence the value is `PRESENT`.
        pixel_offset: where the pixel bytes begin in the stored file; None when there are none.
        pixel_length: their number; None for encapsulated (compressed) pixel data.
        has_pixels: whether there is a pixel element, in whatever encoding; None of headers that
            were kept before this was.
    """

    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    transfer_syntax_uid: str
    attributes: Mapping[str, AttributeValue]
    pixel_offset: int | None
    pixel_length: int | None
    has_pixels: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """The form that is stored."""
        return {name: getattr(self, name) for name in _HEADER_FIELDS}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> InstanceHeader:
        """Back from the stored form; keys of newer versions are ignored."""
        return cls(**{field.name: stored.get(field.name) for field in fields(cls)})  # pyright: ignore[reportArgumentType]

    @property
    def is_image(self) -> bool:
        """Whether the object has pixels.

        `pixel_offset` does not tell: deflated and big endian pixels have none. Nor do Rows and
        Columns, which raw data have too; they are asked of headers of before only.
        """
        if self.has_pixels is not None:
            return self.has_pixels
        return "Rows" in self.attributes and "Columns" in self.attributes

    def text(self, keyword: str) -> str | None:
        """The attribute's first value as text, None when absent."""
        value = self.attributes.get(keyword)
        if isinstance(value, list):
            return value[0] if value else None
        return value

    def codes(self, keyword: str) -> tuple[str, ...]:
        """The attribute's values as code strings, see `codes_of`; empty when absent."""
        return codes_of(self.attributes.get(keyword))

    def numbers(self, keyword: str) -> tuple[float, ...] | None:
        """The attribute's values as numbers; None when absent or unreadable."""
        value = self.attributes.get(keyword)
        if value is None:
            return None
        try:
            return tuple(float(text) for text in (value if isinstance(value, list) else [value]))
        except ValueError:
            return None


def codes_of(value: object) -> tuple[str, ...]:
    """The values of a code string, to be compared.

    A CS has no small letters, and blanks around it mean nothing (PS3.5 6.2); people write both.
    """
    items = value if isinstance(value, list | tuple | MultiValue) else [value or ""]
    texts = cast("Iterable[object]", items)
    return tuple(code for code in (str(text).strip().upper() for text in texts) if code)


_log = get_logger("common")

# Longer values are none that we keep; they may have gigabytes.
_LONGEST_READ = 1 << 20
_HEADER_KEYWORDS = tuple(sorted({*GEOMETRY_KEYWORDS, *COUNT_KEYWORDS, *SELECTOR_ATTRIBUTES}))
_HEADER_FIELDS = tuple(field.name for field in fields(InstanceHeader))


@dataclass(frozen=True, slots=True)
class Registration:
    """All that registration stores of an instance: its header, its study's and its series'."""

    header: InstanceHeader
    study_attributes: Mapping[str, AttributeValue]
    series_attributes: Mapping[str, AttributeValue]


def scheme() -> Scheme:
    """What `header_scan.scan` has to take out of a head for a `Registration`."""
    header = {*_HEADER_KEYWORDS, *_NOTED_SEQUENCES, *VENDOR_ELEMENTS}
    series = {*_SERIES_KEYWORDS, *SELECTOR_ATTRIBUTES}
    wanted: dict[int, tuple[str, str]] = {}
    for keyword in sorted({*header, *series, *_STUDY_KEYWORDS, *_UID_KEYWORDS}):
        tag = tag_for_keyword(keyword)
        if tag is not None:  # NumberOfInstances is counted, not sent
            wanted[tag] = (keyword, dictionary_VR(tag))
    wanted |= {tag: (name, vr) for name, (tag, vr) in VENDOR_ELEMENTS.items()}
    return Scheme(wanted, frozenset(header), frozenset(_STUDY_KEYWORDS), frozenset(series))


def read_registration(file: BinaryIO | bytes) -> Registration:
    """Reads what registration keeps from a DICOM file (Part 10), without its pixels.

    Raises:
        HeaderError: the file is not DICOM, or one of the four identifying UIDs is missing.
        OSError: the file cannot be read at all.
    """
    try:
        # What lies beyond a head's bound is not needed here: no pixel is read.
        view = shown(BytesIO(file) if isinstance(file, bytes) else file, Bound())
        dataset = pydicom.dcmread(view.stream, stop_before_pixels=True, defer_size=_LONGEST_READ)
        # Elements are converted lazily: a malformed one must fail here, not later.
        return Registration(
            header=_header(dataset, view),
            study_attributes=_pick(dataset, _STUDY_KEYWORDS),
            series_attributes=_pick(dataset, sorted({*_SERIES_KEYWORDS, *SELECTOR_ATTRIBUTES})),
        )
    except (HeaderError, OSError):
        raise
    except StoredObjectError as error:
        raise HeaderError(f"The object cannot be read as DICOM: {error}.") from error
    except Exception as error:
        _log.info("header_not_read", kind=type(error).__name__)
        problem = "its bytes are no sound DICOM object"
        raise HeaderError(f"The object cannot be read as DICOM: {problem}.") from error


def _header(dataset: Dataset, view: Shown) -> InstanceHeader:
    uids = {keyword: str(dataset.get(keyword) or "") for keyword in _UID_KEYWORDS}
    missing = [keyword for keyword, uid in uids.items() if not uid]
    if missing:
        raise HeaderError(f"The object has no {', '.join(missing)}.")
    before_pixels = view.stream.tell()
    tag = view.stream.read(4)
    view.stream.seek(before_pixels)
    offset, length = _pixel_place(view)
    return InstanceHeader(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=view.transfer_syntax_uid,
        attributes={
            **_pick(dataset, _HEADER_KEYWORDS),
            **_note_sequences(dataset),
            **_pick_vendors(dataset),
        },
        pixel_offset=offset,
        pixel_length=length,
        has_pixels=_is_of_pixels(tag, little=view.transfer_syntax_uid != EXPLICIT_BIG),
    )


def _is_of_pixels(tag: bytes, *, little: bool) -> bool:
    order = "little" if little else "big"
    group, element = (int.from_bytes(tag[n : n + 2], order) for n in (0, 2))
    return group << 16 | element in PIXEL_ELEMENTS


def _pick(dataset: Dataset, keywords: tuple[str, ...] | list[str]) -> dict[str, AttributeValue]:
    picked: dict[str, AttributeValue] = {}
    for keyword in keywords:
        try:
            value = _value(dataset, keyword)
        except Exception:  # noqa: BLE001 - the library raises what it likes for what is no number
            value = _undecoded(dataset, keyword)
        if value:
            picked[keyword] = value
    return picked


def _value(dataset: Dataset, keyword: str) -> AttributeValue:
    value = dataset.get(keyword)
    if value is None or value == "" or isinstance(value, pydicom.Sequence):
        return None
    if isinstance(value, (MultiValue, list, tuple)):
        return [_as_sent(item) for item in value]
    return _as_sent(value)


def _undecoded(dataset: Dataset, keyword: str) -> AttributeValue:
    """A value that contradicts its VR, as it was sent: as the scanner of the door has it too."""
    tag = tag_for_keyword(keyword)
    raw = None if tag is None else dataset.get_item(tag).value
    if not isinstance(raw, bytes):
        return None
    texts = [text.strip("\0 ") for text in raw.decode("latin-1").split("\\")]
    return texts[0] if len(texts) == 1 else texts


def _pick_vendors(dataset: Dataset) -> dict[str, AttributeValue]:
    """Vendors' elements, read as the scanner reads them: libraries know few of their VRs."""
    picked: dict[str, AttributeValue] = {}
    for name, (tag, vr) in VENDOR_ELEMENTS.items():
        raw = dataset.get_item(tag)
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes):
            kept_vr = raw.VR if raw.VR and raw.VR != "UN" else vr
            value = kept_value(name, kept_vr, raw.value, little=raw.is_little_endian)
            if value:
                picked[name] = value
    return picked


def _note_sequences(dataset: Dataset) -> dict[str, AttributeValue]:
    return {keyword: PRESENT for keyword in _NOTED_SEQUENCES if dataset.get(keyword)}


def _as_sent(value: object) -> str:
    if isinstance(value, PersonName):  # its original string is bytes
        return str(value).strip()
    # DSfloat and IS keep the characters they were sent as.
    original = getattr(value, "original_string", None)
    return str(value if original is None else original).strip()


# VR and two reserved bytes. As a length these were odd, which none is (PS3.5 7.1.1).
_PIXEL_VRS = (b"OW\0\0", b"OB\0\0", b"UN\0\0")


def _pixel_place(view: Shown) -> tuple[int | None, int | None]:
    """Offset and length, in the file, of the native pixel data that the stream stands before.

    PS3.5 7.1: tag, then in explicit VR two letters and two reserved bytes, then a 32-bit length;
    an undefined length marks encapsulated pixel data. Which of both it is the element itself says:
    the transfer syntax is not always right.
    """
    if view.shift is None:
        return None, None
    start = view.stream.tell() + view.shift
    head = view.stream.read(12)
    if head[:4] != b"\xe0\x7f\x10\x00":
        return None, None
    at = 8 if head[4:8] in _PIXEL_VRS else 4
    if len(head) < at + 4:
        return None, None
    length = int.from_bytes(head[at : at + 4], "little")
    return start + at + 4, None if length == 0xFFFFFFFF else length

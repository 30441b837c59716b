"""What is answered to a STOW-RS request: the Store Instances Response Module and the status.

PS3.18 10.5.3 and I.2; as DICOM JSON (annex F) or as the Native DICOM Model in XML (PS3.19 A.1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

from services.listener.stow.multipart import MultipartError, parse_media_type

JSON_TYPE = "application/dicom+json"
XML_TYPE = "application/dicom+xml"
_XML_NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


class FailureReason(IntEnum):
    """Why an instance was not stored (PS3.18 table I.2-2)."""

    PROCESSING_FAILURE = 0x0110
    DUPLICATE_INSTANCE = 0x0111
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000
    TRANSFER_SYNTAX_NOT_SUPPORTED = 0xC122


# What each means here; the conformance statement prints this table.
REASON_MEANINGS: Mapping[FailureReason, str] = MappingProxyType(
    {
        FailureReason.PROCESSING_FAILURE: "Something that nobody planned. Sending again can help.",
        FailureReason.DUPLICATE_INSTANCE: "Other data are known under the SOP Instance UID, and "
        "the peer's policy (`listener.peers[].conflicts: refuse`) is to take none.",
        FailureReason.SOP_CLASS_NOT_SUPPORTED: "The SOP class is none that C-STORE accepts either.",
        FailureReason.OUT_OF_RESOURCES: "The disk did not take the instance or is nearly full, or "
        "the instance is larger than `listener.stow.max_instance_bytes`.",
        FailureReason.DATA_SET_MISMATCH: "The study is not the one in the path, or the SOP class "
        "or instance UID in the data set is not the one in the file meta information.",
        FailureReason.CANNOT_UNDERSTAND: "The part is no DICOM file in its transfer syntax, or "
        "lacks one of the four UIDs that identify it, or one of them is no UID.",
        FailureReason.TRANSFER_SYNTAX_NOT_SUPPORTED: "The transfer syntax is none that C-STORE "
        "accepts either.",
    }
)


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance that is durable."""

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A part that was not stored.

    Attributes:
        problem: a sentence for the log, without patient data.
        too_large: the instance is larger than is allowed; sending the instance again cannot help.
        sop_class_uid, sop_instance_uid: as far as they are known.
    """

    reason: FailureReason
    problem: str
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    too_large: bool = False

    @property
    def is_named(self) -> bool:
        """Whether the response can name the instance."""
        return bool(self.sop_class_uid and self.sop_instance_uid)


PartOutcome = Stored | Failed


def negotiate(accept: str | None) -> str | None:
    """The media type of the answer by an Accept header; None when nothing we have is accepted.

    The most specific range that a type is in decides about it (RFC 9110 12.5.1). JSON is the
    default (PS3.18 8.7.4); of types accepted equally the one named first is chosen.
    """
    if accept is None or not accept.strip():
        return JSON_TYPE
    wanted: dict[str, tuple[float, int]] = {}
    for place, item in enumerate(accept.split(",")):
        try:
            named = parse_media_type(item)
            quality = float(named.parameters.get("q", "1"))
        except (MultipartError, ValueError):
            continue
        wanted.setdefault(named.name, (quality, -place))
    best: tuple[float, int] = (0.0, 0)
    chosen: str | None = None
    for offered, ranges in _RANGES.items():
        found = next((wanted[name] for name in ranges if name in wanted), None)
        if found is not None and found[0] > 0.0 and (chosen is None or found > best):
            best, chosen = found, offered
    return chosen


# The ranges that each type is in, the most specific first.
_RANGES = {
    JSON_TYPE: (JSON_TYPE, "application/json", "application/*", "*/*"),
    XML_TYPE: (XML_TYPE, "application/*", "*/*"),
}


def status_of(outcomes: Sequence[PartOutcome]) -> HTTPStatus:
    """The status of a request whose body was read (PS3.18 table 10.5.3-1).

    Where all that failed is too large, 409 and not 503: nobody is to send it again. Not 413 either:
    the request is not too large, and whoever reads that looks for no reasons in the answer.
    """
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    if not failed:
        return HTTPStatus.OK if outcomes else HTTPStatus.BAD_REQUEST
    if len(failed) < len(outcomes):
        return HTTPStatus.ACCEPTED
    full = all(outcome.reason is FailureReason.OUT_OF_RESOURCES for outcome in failed)
    if full and not all(outcome.too_large for outcome in failed):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.CONFLICT


def render(outcomes: Iterable[PartOutcome], media_type: str, root_url: str | None = None) -> bytes:
    """The response module (PS3.18 table I.1-1) in one of the two media types.

    Args:
        root_url: of a DICOMweb server that serves what was stored; None leaves RetrieveURL out.
    """
    dataset = _dataset(list(outcomes), root_url)
    if media_type == XML_TYPE:
        return _as_xml(dataset)
    return json.dumps(_as_json(dataset), separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class _Element:
    tag: str
    vr: str
    keyword: str
    # One value; of a sequence, its items.
    value: str | int | list[list[_Element]]


def _dataset(outcomes: list[PartOutcome], root_url: str | None) -> list[_Element]:
    stored = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
    named = [outcome for outcome in failed if outcome.is_named]
    others = [outcome for outcome in failed if not outcome.is_named]
    studies = {outcome.study_uid for outcome in stored}
    elements: list[_Element] = []
    if root_url is not None and len(studies) == 1:
        elements.append(_url(f"{root_url.rstrip('/')}/studies/{studies.pop()}"))
    if named:
        items = [[*_references(outcome), _reason(outcome)] for outcome in named]
        elements.append(_Element("00081198", "SQ", "FailedSOPSequence", items))
    if stored:
        items = [_stored_item(outcome, root_url) for outcome in stored]
        elements.append(_Element("00081199", "SQ", "ReferencedSOPSequence", items))
    if others:
        items = [[_reason(outcome)] for outcome in others]
        elements.append(_Element("0008119A", "SQ", "OtherFailuresSequence", items))
    return elements


def _stored_item(outcome: Stored, root_url: str | None) -> list[_Element]:
    item = _references(outcome)
    if root_url is not None:
        place = f"studies/{outcome.study_uid}/series/{outcome.series_uid}"
        item.append(_url(f"{root_url.rstrip('/')}/{place}/instances/{outcome.sop_instance_uid}"))
    return item


def _references(outcome: PartOutcome) -> list[_Element]:
    return [
        _Element("00081150", "UI", "ReferencedSOPClassUID", outcome.sop_class_uid),
        _Element("00081155", "UI", "ReferencedSOPInstanceUID", outcome.sop_instance_uid),
    ]


def _url(url: str) -> _Element:
    return _Element("00081190", "UR", "RetrieveURL", url)


def _reason(outcome: Failed) -> _Element:
    return _Element("00081197", "US", "FailureReason", int(outcome.reason))


def _as_json(dataset: list[_Element]) -> dict[str, Any]:
    return {
        element.tag: {
            "vr": element.vr,
            "Value": [_as_json(item) for item in element.value]
            if isinstance(element.value, list)
            else [element.value],
        }
        for element in dataset
    }


def _as_xml(dataset: list[_Element]) -> bytes:
    root = ElementTree.Element(
        "NativeDicomModel", {"xmlns": _XML_NAMESPACE, "xml:space": "preserve"}
    )
    _add_xml(root, dataset)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _add_xml(parent: ElementTree.Element, dataset: list[_Element]) -> None:
    for element in dataset:
        named = {"tag": element.tag, "vr": element.vr, "keyword": element.keyword}
        attribute = ElementTree.SubElement(parent, "DicomAttribute", named)
        if isinstance(element.value, list):
            for number, item in enumerate(element.value, 1):
                _add_xml(ElementTree.SubElement(attribute, "Item", number=str(number)), item)
        else:
            ElementTree.SubElement(attribute, "Value", number="1").text = str(element.value)

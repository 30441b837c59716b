"""Whether attributes of the source are valid for their VR (PS3.5 6.2), judged by their bytes.

What an object of ours need not have is copied only when it is valid: a scanner's slip in an
optional attribute must not keep a result from leaving. Nothing is decoded here, so that the bytes
can still be copied as they were sent. Lengths are counted in bytes, as dciodvfy counts them: for
texts of several bytes a character that is stricter than the standard.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from pydicom import config
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.valuerep import DT, validate_value

_ONE_TEXT = frozenset({"LT", "ST", "UR", "UT"})  # a backslash does not separate values there
_TEXTS = _ONE_TEXT | {
    "AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI",
}  # fmt: skip
# Escape (0x1b) begins another character set and may stand in every text.
_CONTROL = re.compile(rb"[\x00-\x1a\x1c-\x1f\x7f]")
_CONTROL_BUT_LINES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
# Where a code's value may stand (PS3.3 8.8).
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")


def has_valid(source: Dataset, keyword: str) -> bool:
    """Whether `source` has a valid value of this attribute."""
    if keyword not in source:
        return False
    element = source.get_item(keyword)
    return bool(text_sent(source, keyword)) and _valid_element(element, character_sets(source))


def is_valid_value(vr: str, text: str) -> bool:
    """Whether `text` is one value of a VR; an empty text is not."""
    try:
        validate_value(vr, text, config.RAISE)
        if vr == "DT":
            DT(text)  # a regular expression knows no calendar
    except ValueError:
        return False
    return bool(text)


def is_valid_equipment(item: Dataset, inherited: tuple[str, ...]) -> bool:
    """Whether an item of ContributingEquipmentSequence may be handed on (PS3.3 C.12.1.1.5).

    Args:
        inherited: the character sets of the data set that holds the item.
    """
    purposes = items_of(item, "PurposeOfReferenceCodeSequence")
    return (
        has_valid(item, "Manufacturer")
        and len(purposes) == 1
        and all(_is_code(purpose) for purpose in purposes)
        and _valid_item(item, inherited)
    )


def text_sent(dataset: Dataset, keyword: str) -> str:
    """The bytes of an attribute as one character each, without padding; empty when absent."""
    if keyword not in dataset:
        return ""
    return _sent(dataset.get_item(keyword)).decode("latin-1").strip(" \0")


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where the attribute is absent or was sent as something else."""
    items = dataset.get(keyword)
    return list(items) if isinstance(items, Sequence) else []


def character_sets(dataset: Dataset) -> tuple[str, ...]:
    """The defined terms of SpecificCharacterSet; none where the attribute is absent."""
    sent = text_sent(dataset, "SpecificCharacterSet")
    return tuple(term.strip() for term in sent.split("\\")) if sent else ()


def _is_code(item: Dataset) -> bool:
    return has_valid(item, "CodeMeaning") and any(has_valid(item, each) for each in _CODE_VALUES)


def _valid_item(item: Dataset, inherited: tuple[str, ...]) -> bool:
    declared = character_sets(item) or inherited
    return all(_valid_element(item.get_item(tag), declared) for tag in list(item.keys()))


def _valid_element(element: DataElement | RawDataElement, declared: tuple[str, ...]) -> bool:
    tag = element.tag
    if tag.is_private:
        return True
    try:
        vr, multiplicity = dictionary_VR(tag), dictionary_VM(tag)
    except KeyError:
        return False
    if element.VR not in (None, "UN", vr) and vr not in ("OB or OW", "US or SS"):
        return False
    if vr == "SQ":
        items = element.value
        return isinstance(items, Iterable) and all(
            isinstance(each, Dataset) and _valid_item(each, declared) for each in items
        )
    return vr not in _TEXTS or _valid_text(_sent(element), vr, multiplicity, declared)


def _valid_text(sent: bytes, vr: str, multiplicity: str, declared: tuple[str, ...]) -> bool:
    text = sent.rstrip(b"\0")
    if not text.isascii() and not all(term in python_encoding for term in declared):
        return False
    if (_CONTROL_BUT_LINES if vr in _ONE_TEXT else _CONTROL).search(text):
        return False
    values = [text] if vr in _ONE_TEXT else text.split(b"\\")
    if multiplicity == "1" and len(values) > 1:
        return False
    # One character for each byte, so that lengths are those of the bytes.
    return all(
        not value.strip() or is_valid_value(vr, value.strip(b" ").decode("latin-1"))
        for value in values
    )


def _sent(element: DataElement | RawDataElement) -> bytes:
    value = element.value
    if isinstance(value, bytes):
        return value
    if value is None or isinstance(value, Dataset):
        return b""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value).encode()
    return "\\".join(str(each) for each in cast("Iterable[object]", value)).encode()

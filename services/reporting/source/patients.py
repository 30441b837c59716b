"""Whether the images of a series are of one patient.

Only the first image's patient is copied into an object. Where another image names another
patient, whose the result is cannot be told. Names are compared as text: the same name in two
character sets is the same patient.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from services.common.stored_objects import read_until

# What a value is made of that may differ: its parts, each of which is one thing or absent.
Parts = tuple[str, ...]

_ESCAPE = b"\x1b"
# PS3.5 6.1.2.5.3: these end what an escape sequence began.
_DELIMITERS = {0x5C, 0x5E, 0x3D}


def differing_patients(files: Iterable[Path]) -> list[str]:
    """The attributes in which the files name different patients, in words; none for one patient.

    An attribute that is absent or empty differs from none; so does an absent part of a name
    (PS3.5 6.2.1: alphabetic, ideographic, phonetic). Each file is read as far as the patient's
    attributes, some dozen elements in.

    Raises:
        StoredObjectError: a file is no sound DICOM object.
    """
    named: dict[str, dict[int, str]] = {}
    differ: dict[str, None] = {}
    for file in files:
        dataset = read_until(file, _LAST, _TAGS)
        encodings = _encodings(dataset)
        for keyword, (words, parts_of) in _IDENTITY.items():
            known = named.setdefault(keyword, {})
            for place, part in enumerate(parts_of(_text(dataset, keyword, encodings))):
                if part and known.setdefault(place, part) != part:
                    differ[words] = None
    return list(differ)


def _whole(text: str) -> Parts:
    return (text.strip(),)


def _groups_of_name(text: str) -> Parts:
    """A name's component groups, without what means nothing: spaces and empty components."""
    return tuple(
        "^".join(component.strip() for component in group.split("^")).rstrip("^")
        for group in text.split("=")
    )


def _digits_of_date(text: str) -> Parts:
    """A date's digits: older systems write it as 1950.01.31 (PS3.5 6.2, DA)."""
    return (text.strip().replace(".", ""),)


# Keyword -> what people call it, and how its text is taken apart.
_IDENTITY: dict[str, tuple[str, Callable[[str], Parts]]] = {
    "PatientID": ("the patient's ID", _whole),
    "PatientName": ("the patient's name", _groups_of_name),
    "PatientBirthDate": ("the patient's date of birth", _digits_of_date),
}
_TAGS = [Tag("SpecificCharacterSet"), *map(Tag, _IDENTITY)]
_LAST = max(_TAGS)


def _encodings(dataset: Dataset) -> Sequence[str]:
    """Python's names of the character sets that a data set says it is in; empty for none."""
    sets = dataset.get("SpecificCharacterSet")
    names = [sets] if isinstance(sets, str) else list(sets or ())
    if not any(name.strip() for name in names):
        return ()
    try:
        return convert_encodings([name.strip() for name in names])
    except LookupError:
        return ()


def _text(dataset: Dataset, keyword: str, encodings: Sequence[str]) -> str:
    """A value as text in one form of Unicode, whatever it is padded with."""
    element = dataset.get_item(keyword) if keyword in dataset else None
    value = element.value if isinstance(element, RawDataElement) else None
    return unicodedata.normalize("NFC", _decoded((value or b"").strip(b" \0"), encodings))


def _decoded(value: bytes, encodings: Sequence[str]) -> str:
    """Decoded by what the data set says; where it is not that, by what it can be."""
    if value.isascii() and _ESCAPE not in value:
        return value.decode("ascii")
    if _ESCAPE in value and encodings:
        return decode_bytes(value, encodings, _DELIMITERS)
    for encoding in (*encodings[:1], "utf-8"):
        try:
            return value.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    return value.decode("latin-1")

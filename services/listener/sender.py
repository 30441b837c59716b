"""Sending a folder by C-STORE: the front door's counterpart, for people and tests.

A storage SCU (PS3.4 B): one association, every instance in the transfer syntax of its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from services.common.errors import AxialError
from services.common.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

# PS3.8 9.3.2: presentation context ids are the odd numbers 1 to 255.
MAX_CONTEXTS = 128
_SUCCESS = 0x0000


class SendError(AxialError):
    """Nothing could be sent: the receiver does not answer or rejects us."""


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """A DICOM file to send."""

    file: Path
    sop_class_uid: str
    transfer_syntax_uid: str
    study_uid: str


@dataclass(frozen=True, slots=True)
class SendReport:
    """What became of the files.

    Attributes:
        failed: file and problem of those that were not taken.
        seconds: from the first request to the last response.
        last_response_at: `time.time` when the last file was answered or given up.
    """

    sent: int
    failed: tuple[tuple[Path, str], ...]
    study_uids: tuple[str, ...]
    seconds: float
    last_response_at: float


def find_instances(folder: Path) -> list[FoundInstance]:
    """The DICOM files in a folder and below it (or the one file), sorted by path."""
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    found: list[FoundInstance] = []
    for file in files:
        try:
            dataset = pydicom.dcmread(
                file, specific_tags=["StudyInstanceUID", "SOPClassUID"], stop_before_pixels=True
            )
        except (InvalidDicomError, OSError):
            continue
        meta = dataset.file_meta
        if "SOPClassUID" in dataset and "TransferSyntaxUID" in meta and file.name != "DICOMDIR":
            found.append(
                FoundInstance(
                    file,
                    str(dataset.SOPClassUID),
                    str(meta.TransferSyntaxUID),
                    str(dataset.get("StudyInstanceUID", "")),
                )
            )
    return found


def send_instances(
    instances: Sequence[FoundInstance],
    *,
    host: str,
    port: int,
    called: str,
    calling: str,
    on_sent: Callable[[], None] = lambda: None,
) -> SendReport:
    """Sends the files over one association.

    Raises:
        SendError: no association; the message says why.
    """
    association = _entity(instances, calling).associate(host, port, ae_title=called)
    if not association.is_established:
        how = "rejected us" if association.is_rejected else "does not answer"
        raise SendError(
            f"{called} at {host}:{port} {how}. Check the AE titles, the port, and that "
            f"'{calling}' is among the listener's peers.",
            retryable=not association.is_rejected,
        )
    begun = time.monotonic()
    try:
        failed, last_response_at = _send_all(association, instances, on_sent)
    finally:
        seconds = time.monotonic() - begun
        association.release()
    studies = tuple(dict.fromkeys(item.study_uid for item in instances))
    return SendReport(len(instances) - len(failed), failed, studies, seconds, last_response_at)


def _entity(instances: Sequence[FoundInstance], calling: str) -> AE:
    entity = AE(ae_title=calling)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    wanted = {(item.sop_class_uid, item.transfer_syntax_uid) for item in instances}
    if len(wanted) > MAX_CONTEXTS:
        raise SendError(f"{len(wanted)} kinds of objects; one association carries {MAX_CONTEXTS}.")
    uncompressed = {ExplicitVRLittleEndian, ImplicitVRLittleEndian}
    for sop_class_uid, syntax in sorted(wanted):
        offered = sorted({syntax, *uncompressed}) if syntax in uncompressed else [syntax]
        entity.add_requested_context(sop_class_uid, offered)
    return entity


def _send_all(
    association: Association, instances: Sequence[FoundInstance], on_sent: Callable[[], None]
) -> tuple[tuple[tuple[Path, str], ...], float]:
    # Returns what `SendReport` calls `failed` and `last_response_at`.
    failed: list[tuple[Path, str]] = []
    last_response_at = time.time()
    for number, item in enumerate(instances):
        if not association.is_established:
            rest = [(left.file, "the association ended early") for left in instances[number:]]
            failed.extend(rest)
            break
        problem = _send(association, item.file)
        last_response_at = time.time()
        if problem is not None:
            failed.append((item.file, problem))
        on_sent()
    return tuple(failed), last_response_at


def _send(association: Association, file: Path) -> str | None:
    # Returns the problem; None when it was taken.
    try:
        status = association.send_c_store(file)
    except (ValueError, RuntimeError) as error:
        return str(error)
    code = status.get("Status") if status else None
    if code == _SUCCESS:
        return None
    return "no response" if code is None else f"status 0x{code:04X}"

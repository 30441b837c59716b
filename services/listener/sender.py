"""Sending a folder by C-STORE: the front door's counterpart, for people and tests.

A storage SCU (PS3.4 B): one association, every instance in the transfer syntax of its file. What is
not answered in time is sent once more over another association: the library's own thread may take
an answer from the one that waits for it, when the machine is busy. Sending twice does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
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
# Disks are synced before an answer; nothing that works takes longer.
_ANSWER_WITHIN_S = 15.0
_NO_RESPONSE = "no response"


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
    """Sends the files over one association, and what it left unanswered over another.

    Raises:
        SendError: no association; the message says why.
    """

    def associate() -> Association:
        association = _entity(instances, calling).associate(host, port, ae_title=called)
        if not association.is_established:
            how = "rejected us" if association.is_rejected else "does not answer"
            raise SendError(
                f"{called} at {host}:{port} {how}. Check the AE titles, the port, and that "
                f"'{calling}' is among the listener's peers.",
                retryable=not association.is_rejected,
            )
        return association

    association = associate()
    begun = time.monotonic()
    failed, unanswered = _send_all(association, instances, on_sent)
    association.release()
    if unanswered:
        with suppress(SendError):
            association = associate()
            more, unanswered = _send_all(association, unanswered, on_sent)
            failed += more
            association.release()
    failed += tuple((left.file, _NO_RESPONSE) for left in unanswered)
    last_response_at = time.time()
    seconds = time.monotonic() - begun
    studies = tuple(dict.fromkeys(item.study_uid for item in instances))
    return SendReport(len(instances) - len(failed), failed, studies, seconds, last_response_at)


def _entity(instances: Sequence[FoundInstance], calling: str) -> AE:
    entity = AE(ae_title=calling)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.dimse_timeout = _ANSWER_WITHIN_S
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
) -> tuple[tuple[tuple[Path, str], ...], Sequence[FoundInstance]]:
    # Returns what `SendReport` calls `failed`, and what is to be sent over another association.
    failed: list[tuple[Path, str]] = []
    for number, item in enumerate(instances):
        if not association.is_established:
            rest = [(left.file, "the association ended early") for left in instances[number:]]
            failed.extend(rest)
            break
        asked = time.monotonic()
        problem = _send(association, item.file)
        if problem == _NO_RESPONSE and time.monotonic() - asked >= 0.9 * _ANSWER_WITHIN_S:
            return tuple(failed), instances[number:]
        if problem is not None:
            failed.append((item.file, problem))
        on_sent()
    return tuple(failed), ()


def _send(association: Association, file: Path) -> str | None:
    # Returns the problem; None when it was taken.
    try:
        status = association.send_c_store(file)
    except (ValueError, RuntimeError) as error:
        return str(error)
    code = status.get("Status") if status else None
    if code == _SUCCESS:
        return None
    return _NO_RESPONSE if code is None else f"status 0x{code:04X}"

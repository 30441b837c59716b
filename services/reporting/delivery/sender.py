"""Sending a parcel over one DICOM association (C-STORE SCU, PS3.4 B)."""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from services.common.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    sha256_hex,
)
from services.common.settings import Destination
from services.reporting.delivery.line import Line
from services.reporting.delivery.statuses import Outcome, judge_status

# PS3.8 9.3.3.2: results of a presentation context that no other attempt will change.
_NEVER_ACCEPTED = {3: "does not take this SOP class", 4: "takes none of our transfer syntaxes"}

# Added to a deadline before the line is cut: pynetdicom's own comes first and aborts politely.
_ABORT_S = 0.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """How an attempt to store one object ended.

    Attributes:
        note: why it was not stored, or what the destination remarked; None for plain success.
    """

    outcome: Outcome
    note: str | None


class AssociationFailed(Exception):
    """There is no association: why, in a sentence. Another attempt may have one."""


class Association:
    """An open association with a destination; made by `associate`."""

    def __init__(self, association: Any, destination: Destination, line: Line) -> None:
        self._association = association
        self._destination = destination
        self._line = line

    def store(self, file: Path, digest: str, sop_class_uid: str) -> Attempt:
        """Sends one object and waits for the answer.

        Args:
            digest: SHA-256 of the file as it was registered; a file that changed does not leave.
        """
        refused = self._refused(sop_class_uid)
        if refused is not None:
            return refused
        try:
            content = file.read_bytes()
        except OSError as error:
            return Attempt(Outcome.PERMANENT, f"the file cannot be read: {error.strerror}")
        if sha256_hex(content) != digest:
            return Attempt(Outcome.PERMANENT, "the file is not the one that was checked")
        if not self._association.is_established:
            return Attempt(Outcome.RETRY, "the destination closed the association")
        try:
            dataset = pydicom.dcmread(io.BytesIO(content))
            with self._line.within(self._destination.response_timeout_s + _ABORT_S):
                status = self._association.send_c_store(dataset)
        except RuntimeError:
            return Attempt(Outcome.RETRY, "the destination closed the association")
        except Exception as error:  # noqa: BLE001  what libraries raise is not ours to list
            # Its kind alone: their texts quote values. The same object would raise it again.
            return Attempt(Outcome.PERMANENT, f"it cannot be encoded ({type(error).__name__})")
        if "Status" not in status:
            return Attempt(
                Outcome.RETRY,
                "the destination aborted, or did not answer within "
                f"{self._destination.response_timeout_s:g} s",
            )
        code = int(status.Status)
        meaning = judge_status(code)
        note = None if code == 0 else f"status 0x{code:04X}: {meaning.meaning}"
        return Attempt(meaning.outcome, note)

    def abort(self) -> None:
        """Ends the association from another thread, at once."""
        self._line.cut()

    def _refused(self, sop_class_uid: str) -> Attempt | None:
        """Whether the destination refused every presentation context of a SOP class."""
        if any(
            context.abstract_syntax == sop_class_uid
            for context in self._association.accepted_contexts
        ):
            return None
        reasons = {
            context.result
            for context in self._association.rejected_contexts
            if context.abstract_syntax == sop_class_uid
        }
        for reason, sentence in _NEVER_ACCEPTED.items():
            if reason in reasons:
                return Attempt(Outcome.PERMANENT, f"the destination {sentence}")
        return Attempt(Outcome.RETRY, "the destination refused the presentation contexts")


@contextmanager
def associate(
    destination: Destination,
    sop_classes: Iterable[str],
    opened: Callable[[Association], None],
) -> Generator[Association]:
    """Opens an association for the SOP classes of a parcel and releases it at the end.

    Explicit and Implicit VR Little Endian are proposed in contexts of their own, so that a
    destination's choice for one does not hide the other.

    Args:
        opened: told the association as soon as there is one, so that it can be aborted.

    Raises:
        AssociationFailed: the destination is not there, rejects or aborts.
    """
    contexts = [
        build_context(sop_class, syntax)
        for sop_class in dict.fromkeys(sop_classes)
        for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    ]
    line = Line()
    # The connection and the answer to the request have this time each.
    with line.within(2 * destination.connect_timeout_s + _ABORT_S):
        try:
            association = _entity(destination).associate(
                destination.host,
                destination.port,
                contexts=contexts,
                ae_title=destination.ae_title,
                evt_handlers=[(evt.EVT_CONN_OPEN, line.opened)],
            )
        except OSError as error:  # the name is not known, or no socket is to be had
            where = f"{destination.host}:{destination.port}"
            raise AssociationFailed(
                f"{where} cannot be reached ({type(error).__name__})"
            ) from error
    # Where every context was refused, the parcel's objects are told one by one what that means.
    if not association.is_established and not association.rejected_contexts:
        raise AssociationFailed(_why_not(association, destination))
    try:
        held = Association(association, destination, line)
        opened(held)
        yield held
    finally:
        if association.is_established:
            with line.within(destination.connect_timeout_s + _ABORT_S):
                association.release()


def _entity(destination: Destination) -> AE:
    """Us, with the destination's deadlines."""
    entity = AE(ae_title=destination.calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = destination.connect_timeout_s
    entity.acse_timeout = destination.connect_timeout_s
    entity.dimse_timeout = destination.response_timeout_s
    # The answer's own deadline comes first: its message says what was waited for.
    entity.network_timeout = destination.response_timeout_s + 5.0
    return entity


def _why_not(association: Any, destination: Destination) -> str:
    where = f"{destination.host}:{destination.port}"
    if association.is_rejected:
        answer = association.acceptor.primitive
        kind = "permanently" if answer is not None and answer.result == 1 else "for now"
        reason = getattr(answer, "reason_str", "") if answer is not None else ""
        return f"{where} rejected the association {kind}" + (f": {reason}" if reason else "")
    if association.acceptor.primitive is None and not _connected(association):
        return f"{where} cannot be reached"
    return f"{where} aborted the association, or did not answer it"


def _connected(association: Any) -> bool:
    socket = association.dul.socket
    return bool(socket is not None and socket._is_connected)

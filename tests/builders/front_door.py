"""Associations with a whole listener, by our own requestor: nothing runs beside the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from pydicom.uid import MRImageStorage

from services.common.transcoding import EXPLICIT, IMPLICIT
from services.dimse.files import look_at
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association, StoreRequest
from services.listener.service import Listener

Contexts = Sequence[tuple[str, Sequence[str]]]
_ECHO_AND_MR: Contexts = (
    (VERIFICATION, (EXPLICIT, IMPLICIT)),
    (MRImageStorage, (EXPLICIT,)),
    (MRImageStorage, (IMPLICIT,)),
)
# Who waits longer for the door has found a bug.
_WITHIN_S = 30.0


class OpenAssociation:
    """An association; a context manager that releases it, if the test has not."""

    def __init__(self, association: Association) -> None:
        self._association = association

    def __enter__(self) -> OpenAssociation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._association.__exit__(kind, error, trace)

    def store(self, file: Path) -> int:
        """C-STORE of a file as it is; the answer's status."""
        found = look_at(file)
        context_id = self._association.accepted(found.sop_class_uid, found.transfer_syntax_uid)
        assert context_id is not None, f"no context for {found}"
        with found.open() as data:
            request = StoreRequest(
                context_id, found.sop_class_uid, found.sop_instance_uid, data, found.data_bytes
            )
            status = self._association.store(request).status
        assert status is not None
        return status

    def store_all(self, files: Sequence[Path]) -> None:
        """C-STORE of files, each of which is answered with success."""
        for file in files:
            assert self.store(file) == 0x0000, file

    def echo(self) -> int:
        """C-ECHO; the answer's status."""
        return self._association.echo()

    def results(self) -> dict[str, int]:
        """The result of each SOP class that was proposed (PS3.8 table 9-18)."""
        return {
            sop_class: result
            for (sop_class, _), (_, result) in sorted(
                self._association.contexts.items(), key=lambda each: -each[1][1]
            )
        }

    def release(self) -> None:
        """Releases it."""
        self._association.__exit__(None, None, None)


def associate(
    listener: Listener,
    called: str = "AXIAL",
    calling: str = "MR1",
    contexts: Contexts = _ECHO_AND_MR,
) -> OpenAssociation:
    """An association with a listener; raises `Rejected` where it is rejected."""
    return associate_at("127.0.0.1", listener.port, called, calling, contexts)


def associate_at(
    host: str, port: int, called: str, calling: str, contexts: Contexts = _ECHO_AND_MR
) -> OpenAssociation:
    """An association with whoever listens there."""
    call = Call(
        host, port, called, calling, connect_timeout_s=_WITHIN_S, answer_timeout_s=_WITHIN_S
    )
    proposed = [
        ProposedContext(2 * number + 1, sop_class, tuple(syntaxes))
        for number, (sop_class, syntaxes) in enumerate(contexts)
    ]
    return OpenAssociation(Association(call, proposed).__enter__())

"""C-STORE: sending results over one DICOM association (SCU, PS3.4 B)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from ssl import SSLContext

from services.common.errors import TranscodingError
from services.common.part10_head import MAX_HEAD_BYTES, HeadError, Part10Head, read_head
from services.common.settings import CStoreDestination
from services.common.transcoding import (
    ALTERNATIVES,
    EXPLICIT,
    IMPLICIT,
    data_set_in,
)
from services.dimse import requestor
from services.dimse.endings import NEVER_ACCEPTED, context_result_in_words
from services.dimse.errors import AssociationError, SourceError
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import StoreRequest
from services.dimse.statuses import SendOutcome, judge_status
from services.dimse.tls import ClientTlsFiles, TlsError, make_client_context
from services.reporting.delivery.rows import Delivery
from services.reporting.delivery.transports.transport import Attempt, Line, NotReached

_READ_BYTES = 1 << 20


class Association:
    """An open association with a destination; made by `CStore.open`."""

    def __init__(self, association: requestor.Association) -> None:
        self._association = association

    def send(
        self, file: Path, delivery: Delivery, on_progress: Callable[[], None] | None = None
    ) -> Attempt:
        """See `Line`; `on_progress` is called for each megabyte that the destination accepted."""
        refused = self._refused(delivery.sop_class_uid)
        if refused is not None:
            return refused
        try:
            with file.open("rb", buffering=0) as stream:
                if _digest(stream) != delivery.digest:
                    return Attempt(
                        SendOutcome.PERMANENT, "the file is not the one that was checked"
                    )
                return self._store(stream, delivery, on_progress)
        except OSError as error:
            return Attempt(SendOutcome.PERMANENT, f"the file cannot be read: {error.strerror}")

    def abort(self) -> None:
        """Ends the association from another thread, at once."""
        self._association.cut()

    def _store(
        self, stream: FileIO, delivery: Delivery, on_progress: Callable[[], None] | None
    ) -> Attempt:
        try:
            head = _head(stream)
        except HeadError:
            return Attempt(SendOutcome.PERMANENT, "the file is no DICOM file")
        try:
            request = self._request(stream, head, delivery)
        except TranscodingError as error:
            # The same object would not be written at the next try either.
            problem = f"it cannot be written in a transfer syntax that is taken: {error}"
            return Attempt(SendOutcome.PERMANENT, problem)
        if request is None:
            return Attempt(SendOutcome.RETRY, "the destination refused the presentation contexts")
        try:
            response = self._association.store(request, on_progress)
        except AssociationError as error:
            return Attempt(SendOutcome.RETRY, f"the destination {error}")
        except SourceError as error:
            return Attempt(SendOutcome.PERMANENT, str(error))
        code = response.status or 0
        meaning = judge_status(code)
        # Not the destination's own comment: nobody knows what it quotes.
        note = None if code == 0 else f"status 0x{code:04X}: {meaning.meaning}"
        return Attempt(meaning.outcome, note)

    def _request(self, stream: FileIO, head: Part10Head, delivery: Delivery) -> StoreRequest | None:
        """The object as it lies in its file, or written anew where only that is taken."""
        sop_class, uid = delivery.sop_class_uid, delivery.sop_instance_uid
        context_id = self._association.accepted(sop_class, head.transfer_syntax_uid)
        if context_id is not None:
            data_bytes = stream.seek(0, 2) - head.data_set_at
            stream.seek(head.data_set_at)
            return StoreRequest(context_id, sop_class, uid, stream, data_bytes)
        for syntax in ALTERNATIVES.get(head.transfer_syntax_uid, ()):
            context_id = self._association.accepted(sop_class, syntax)
            if context_id is not None:
                stream.seek(0)
                data = data_set_in(stream.readall(), syntax)
                return StoreRequest(context_id, sop_class, uid, io.BytesIO(data), len(data))
        return None

    def _refused(self, sop_class_uid: str) -> Attempt | None:
        """Whether the destination refused every presentation context of a SOP class."""
        results = {
            result
            for (sop_class, _), (_, result) in self._association.contexts.items()
            if sop_class == sop_class_uid
        }
        if 0 in results:
            return None
        for result in sorted(results & NEVER_ACCEPTED):
            return Attempt(
                SendOutcome.PERMANENT, f"the destination {context_result_in_words(result)}"
            )
        return Attempt(SendOutcome.RETRY, "the destination refused the presentation contexts")


class CStore:
    """The way to a destination by C-STORE."""

    def __init__(self, destination: CStoreDestination) -> None:
        self._destination = destination

    @property
    def longest_silence_s(self) -> float:
        """The deadlines of connecting, of the association and of an answer."""
        return 2 * self._destination.connect_timeout_s + self._destination.response_timeout_s

    @contextmanager
    def open(
        self, deliveries: Sequence[Delivery], opened: Callable[[Line], None]
    ) -> Generator[Association]:
        """Opens an association for the SOP classes of a parcel and releases it at the end.

        Explicit and Implicit VR Little Endian are proposed in contexts of their own, so that a
        destination's choice for one does not hide the other.

        Raises:
            NotReached: the destination is not there, rejects or aborts.
        """
        classes = dict.fromkeys(delivery.sop_class_uid for delivery in deliveries)
        kinds = [(sop_class, syntax) for sop_class in classes for syntax in (EXPLICIT, IMPLICIT)]
        contexts = [
            ProposedContext(2 * number + 1, sop_class, (syntax,))
            for number, (sop_class, syntax) in enumerate(kinds)
        ]
        where = f"{self._destination.host}:{self._destination.port}"
        with ExitStack() as stack:
            try:
                asked = requestor.Association(_call(self._destination), contexts)
                held = Association(asked)
                opened(held)
                stack.enter_context(asked)
            except AssociationError as error:
                raise NotReached(f"{where} {error}") from error
            except TlsError as error:
                raise NotReached(str(error)) from error
            yield held

    def probe(self, opened: Callable[[Line], None]) -> bool:
        """Whether the destination accepts an association, and C-ECHO where it accepts that."""
        context = ProposedContext(1, requestor.VERIFICATION, (IMPLICIT,))
        try:
            asked = requestor.Association(_call(self._destination), [context])
            opened(Association(asked))
            with asked:
                if asked.accepted(requestor.VERIFICATION, IMPLICIT) is not None:
                    asked.echo()
        except (AssociationError, TlsError):
            return False
        return True


def _call(destination: CStoreDestination) -> Call:
    return Call(
        destination.host,
        destination.port,
        destination.ae_title,
        destination.calling_ae_title,
        _tls(destination),
        connect_timeout_s=destination.connect_timeout_s,
        answer_timeout_s=destination.response_timeout_s,
    )


def _tls(destination: CStoreDestination) -> SSLContext | None:
    """Made anew for each association: renewed certificates are in force from the next one on."""
    tls = destination.tls
    if tls is None:
        return None
    return make_client_context(
        ClientTlsFiles(
            str(tls.trusted_certificates),
            None if tls.certificate is None else str(tls.certificate),
            None if tls.key is None else str(tls.key),
            None if tls.revocation_list is None else str(tls.revocation_list),
            tls.profile,
            tls.check_host_name,
        )
    )


def _digest(stream: FileIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_READ_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def _head(stream: FileIO) -> Part10Head:
    stream.seek(0)
    start = stream.read(MAX_HEAD_BYTES)
    head = read_head(start, complete=True)
    assert head is not None, "of all its bytes, no more are needed"
    return head

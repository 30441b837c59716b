"""One association that we ask for: C-ECHO and C-STORE as SCU (PS3.4 A, B; PS3.8 9.2).

One operation at a time, in the thread that calls; nothing runs beside it, so that no answer can be
taken by another. A data set goes from its file to the connection in pieces of a megabyte, cut
into P-DATA-TFs of the size that the acceptor takes, without being looked at. Every wait has a
deadline: for the association, for the acceptor to take what is sent, and for its answer. The next
instance may be read while the acceptor writes the one before.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from services.common.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from services.dimse import commands, pdu
from services.dimse.commands import MalformedCommandError, Response
from services.dimse.endings import abort_in_words, rejected_for_now, rejection_in_words
from services.dimse.errors import (
    Aborted,
    AssociationError,
    NoAnswer,
    Rejected,
    SourceError,
    Violated,
)
from services.dimse.line import Call, Line
from services.dimse.pdu import MalformedPduError, ProposedContext
from services.dimse.proposal import AssociateAnswer, associate_request, parse_associate_accept
from services.dimse.wire import Buffer, ConnectionLostError, SilentPeerError, Wire

VERIFICATION = "1.2.840.10008.1.1"

# We receive nothing but answers.
_MAX_PDU_BYTES = 64 << 10
# What is read from a file at once, and the longest fragment where the acceptor sets no limit.
_PIECE_BYTES = 1 << 20
_UNLIMITED_FRAGMENT = 128 << 10
# Buffers that one call to the system takes (IOV_MAX is 1024), two for each fragment.
_MOST_FRAGMENTS = 256
# P-DATA-TF, its length, and the head of the one presentation data value in it (PS3.8 9.3.5).
_FRAGMENT_HEAD = struct.Struct(">BxIIBB")
_VALUE_HEAD_BYTES = 6
_COMMAND, _LAST = 1, 2
_COMMAND_LIMIT = 64 << 10
_ACCEPTED = 0
_MESSAGE_IDS = 0xFFFF


class Readable(Protocol):
    """A binary file that stands where the data set begins."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Reads into the buffer; 0 at the end."""
        ...


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """An instance to store.

    Attributes:
        context_id: an accepted presentation context of the instance's SOP class and transfer
            syntax.
        data: the data set's bytes in that transfer syntax, `data_bytes` of them.
    """

    context_id: int
    sop_class_uid: str
    sop_instance_uid: str
    data: Readable
    data_bytes: int


class Association:
    """An association; a context manager that requests and releases it. For a single thread.

    Args:
        proposed: the presentation contexts, at most `pdu.MOST_CONTEXTS`.

    Attributes:
        answer: what the acceptor said to the request.
    """

    answer: AssociateAnswer

    def __init__(self, call: Call, proposed: Sequence[ProposedContext]) -> None:
        self._call = call
        self._proposed = {context.context_id: context for context in proposed}
        self._results: dict[tuple[str, str], tuple[int, int]] = {}
        self._line = Line()
        self._message_id = 0
        self._is_open = False
        self._read_ahead: StoreRequest | None = None  # whose first piece is in the spare one

    def __enter__(self) -> Association:
        deadline = time.monotonic() + self._call.connect_timeout_s
        try:
            self._wire = Wire(self._line.connect(self._call, deadline), _MAX_PDU_BYTES)
            self._negotiate(deadline)
        except BaseException:
            self._line.close()
            raise
        self._is_open = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_open and error is None:
            with suppress(AssociationError):
                self._release()
        elif self._is_open:
            self._abort()
        self._is_open = False
        self._line.close()

    @property
    def is_open(self) -> bool:
        """Whether operations can still be asked for."""
        return self._is_open

    @property
    def contexts(self) -> Mapping[tuple[str, str], tuple[int, int]]:
        """SOP class and transfer syntax -> id and result (PS3.8 table 9-18; 0 is accepted)."""
        return self._results

    def accepted(self, sop_class_uid: str, transfer_syntax_uid: str) -> int | None:
        """The id of an accepted presentation context; None when there is none."""
        context_id, result = self._results.get((sop_class_uid, transfer_syntax_uid), (0, 1))
        return context_id if result == _ACCEPTED else None

    def echo(self) -> int:
        """C-ECHO (PS3.7 9.1.5): the status of the answer.

        Raises:
            AssociationError: there was none.
            ValueError: verification was not accepted.
        """
        found = next(
            (
                number
                for (abstract, _), (number, result) in self._results.items()
                if abstract == VERIFICATION and result == _ACCEPTED
            ),
            None,
        )
        if found is None:
            raise ValueError("Verification was not accepted.")
        with self._operation() as message_id:
            command = commands.echo_request(message_id, VERIFICATION)
            self._wire.send_parts(self._fragments(found, _COMMAND, command))
            return self._answer(commands.C_ECHO_RQ, message_id).status or 0

    def store(
        self,
        request: StoreRequest,
        on_progress: Callable[[], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Response:
        """C-STORE (PS3.7 9.1.1): sends an instance and waits for the answer, which has a status.

        Args:
            request: the instance.
            on_progress: called after each megabyte that was sent.
            meanwhile: called when the whole instance was sent, before the answer is waited for: the
                acceptor writes then, and the next instance may be read (`read_ahead`).

        Raises:
            AssociationError: there was no answer; whether the acceptor has the instance is not
                known.
            SourceError: the instance's bytes cannot be read; where some had been sent the
                association ends.
        """
        with self._operation() as message_id:
            command = commands.store_request(
                message_id, request.sop_class_uid, request.sop_instance_uid
            )
            self._send_data_set(command, request, on_progress)
            if meanwhile is not None:
                meanwhile()
            return self._answer(commands.C_STORE_RQ, message_id)

    def read_ahead(self, request: StoreRequest) -> None:
        """Reads the first megabyte of the instance that is to be stored next.

        Raises:
            SourceError: the instance's bytes cannot be read.
        """
        piece = self._spare_piece[: min(request.data_bytes, len(self._spare_piece))]
        _fill(request.data, piece)
        self._read_ahead = request

    def cut(self) -> None:
        """Ends the connection at once, from any thread; what waits for it ends with an error."""
        self._line.cut()

    def _negotiate(self, deadline: float) -> None:
        request = associate_request(
            self._call.called,
            self._call.calling,
            list(self._proposed.values()),
            max_pdu_bytes=_MAX_PDU_BYTES,
            implementation_class_uid=IMPLEMENTATION_CLASS_UID,
            implementation_version=IMPLEMENTATION_VERSION_NAME,
        )
        try:
            self._wire.set_patience(max(0.001, deadline - time.monotonic()))
            self._wire.send_parts([request])
            kind, body = self._wire.read(deadline)
            if kind == pdu.A_ASSOCIATE_RJ and len(body) >= 4:
                result, source, reason = body[1], body[2], body[3]
                words = rejection_in_words(result, source, reason)
                code = (result, source, reason)
                raise Rejected(words, code, retryable=rejected_for_now(result))
            if kind != pdu.A_ASSOCIATE_AC:
                raise self._unexpected(kind, body)
            self.answer = parse_associate_accept(bytes(body))
        except SilentPeerError as error:
            self._abort()
            problem = (
                f"did not answer the association request within {self._call.connect_timeout_s:g} s"
            )
            raise NoAnswer(problem, retryable=True) from error
        except ConnectionLostError as error:
            raise self._lost("when the association was asked for") from error
        except MalformedPduError as error:
            self._abort(error.reason)
            raise _violated(error) from error
        self._apply_answer()

    def _apply_answer(self) -> None:
        for answered in self.answer.contexts:
            context = self._proposed.get(answered.context_id)
            if context is None:
                continue
            result = answered.result
            for syntax in context.transfer_syntaxes:
                chosen = result == _ACCEPTED and answered.transfer_syntax == syntax
                # Of an accepted context, the syntaxes that were not chosen are not refused.
                answer = (answered.context_id, _ACCEPTED if chosen else result or 1)
                self._results[context.abstract_syntax, syntax] = answer
        limit = self.answer.max_pdu_bytes
        fragment = limit - _VALUE_HEAD_BYTES if limit else _UNLIMITED_FRAGMENT
        # Fragments have an even length (PS3.8 annex F of old; PS3.5 7.1).
        self._fragment_bytes = min(fragment, _PIECE_BYTES) & ~1
        fragments = min(max(1, _PIECE_BYTES // self._fragment_bytes), _MOST_FRAGMENTS)
        self._piece, self._spare_piece = (
            memoryview(mmap.mmap(-1, fragments * self._fragment_bytes)) for _ in range(2)
        )

    @contextmanager
    def _operation(self) -> Generator[int]:
        """A message id for one operation; what goes wrong in it ends the association, in words."""
        if not self._is_open:
            raise Aborted("has no association with us any more", retryable=True)
        self._message_id = self._message_id % _MESSAGE_IDS + 1
        self._wire.set_patience(self._call.answer_timeout_s)
        try:
            yield self._message_id
        except SilentPeerError as error:
            self._abort()
            problem = f"did not answer within {self._call.answer_timeout_s:g} s"
            raise NoAnswer(problem, retryable=True) from error
        except ConnectionLostError as error:
            self._is_open = False
            raise self._lost("in the middle of the association") from error
        except (MalformedPduError, MalformedCommandError) as error:
            self._abort(getattr(error, "reason", pdu.INVALID_PARAMETER))
            raise _violated(error) from error

    def _send_data_set(
        self, command: bytes, request: StoreRequest, on_progress: Callable[[], None] | None
    ) -> None:
        parts = self._fragments(request.context_id, _COMMAND, command)
        left = request.data_bytes
        is_read, self._read_ahead = self._read_ahead is request, None
        if is_read:
            self._piece, self._spare_piece = self._spare_piece, self._piece
        sent_any = False
        while True:
            piece = self._piece[: min(left, len(self._piece))]
            try:
                if not is_read:
                    _fill(request.data, piece)
            except SourceError:
                if sent_any:
                    self._abort()
                raise
            is_read = False
            left -= len(piece)
            parts += self._fragments(request.context_id, 0, piece, more=left > 0)
            self._wire.send_parts(parts)
            sent_any = True
            if on_progress is not None:
                on_progress()
            if not left:
                return
            parts = []

    def _fragments(
        self, context_id: int, kind: int, data: Buffer, *, more: bool = False
    ) -> list[Buffer]:
        """P-DATA-TFs around data: heads and views in turn; the last is marked unless `more`."""
        view, size = memoryview(data), self._fragment_bytes
        parts: list[Buffer] = []
        for at in range(0, len(view) or 1, size):
            fragment = view[at : at + size]
            last = 0 if more or at + size < len(view) else _LAST
            length = len(fragment)
            head = (pdu.P_DATA_TF, length + 6, length + 2, context_id, kind | last)
            parts += (_FRAGMENT_HEAD.pack(*head), fragment)
        return parts

    def _answer(self, field: int, message_id: int) -> Response:
        """The response to a request.

        Raises:
            NoAnswer, Aborted, Violated: there is none.
        """
        deadline = time.monotonic() + self._call.answer_timeout_s
        command, response = b"", None
        while True:
            kind, body = self._wire.read(deadline)
            if kind != pdu.P_DATA_TF:
                raise self._unexpected(kind, body)
            for _, control, fragment in pdu.data_values(body):
                last = bool(control & _LAST)
                if control & _COMMAND:
                    command += fragment
                    if len(command) > _COMMAND_LIMIT:
                        raise MalformedPduError("A command without end.")
                    if not last:
                        continue
                    response = _checked(commands.parse_response(command), field, message_id)
                    if not response.has_data_set:
                        return response
                elif response is None:
                    raise MalformedPduError("A data set without its command.", pdu.UNEXPECTED_PDU)
                elif last:
                    return response

    def _unexpected(self, kind: int, body: memoryview) -> AssociationError:
        """What a PDU that is no answer means; the association is over."""
        self._is_open = False
        if kind == pdu.A_ABORT and len(body) >= 4:
            return Aborted(abort_in_words(body[2], body[3]), retryable=True)
        if kind == pdu.A_RELEASE_RQ:
            with suppress(ConnectionLostError):
                self._wire.send(pdu.release_response())
            return Aborted("released the association before it had answered", retryable=True)
        self._abort(pdu.UNEXPECTED_PDU)
        return Violated(f"sent a PDU of type {kind:02X}H where an answer was due", retryable=True)

    def _lost(self, when: str) -> Aborted:
        # An A-ABORT that came before the connection broke says more.
        with suppress(SilentPeerError, ConnectionLostError, MalformedPduError):
            while True:
                kind, body = self._wire.read(time.monotonic() + 0.05)
                if kind == pdu.A_ABORT and len(body) >= 4:
                    return Aborted(abort_in_words(body[2], body[3]), retryable=True)
        return Aborted(f"closed the connection {when}", retryable=True)

    def _release(self) -> None:
        deadline = time.monotonic() + self._call.connect_timeout_s
        try:
            self._wire.set_patience(self._call.connect_timeout_s)
            self._wire.send(pdu.release_request())
            while True:
                kind, _ = self._wire.read(deadline)
                if kind == pdu.A_RELEASE_RQ:  # both at once (PS3.8 9.2.3, release collision)
                    self._wire.send(pdu.release_response())
                elif kind in (pdu.A_RELEASE_RP, pdu.A_ABORT):
                    return
        except (SilentPeerError, ConnectionLostError, MalformedPduError):
            return  # all that was asked for was answered before

    def _abort(self, reason: int | None = None) -> None:
        """Tells the acceptor, if it still listens, that we end the association."""
        self._is_open = False
        said = pdu.abort(0, source=0) if reason is None else pdu.abort(reason)
        with suppress(ConnectionLostError):
            self._wire.set_patience(0.1)
            self._wire.send(said)


def _fill(source: Readable, piece: memoryview) -> None:
    filled = 0
    while filled < len(piece):
        try:
            got = source.readinto(piece[filled:])
        except OSError as error:
            raise SourceError(f"its data set cannot be read: {error.strerror}") from error
        if not got:
            raise SourceError("its data set has become shorter while it was sent")
        filled += got


def _checked(response: Response, field: int, message_id: int) -> Response:
    if response.field != field | commands.RESPONSE or response.message_id != message_id:
        raise MalformedCommandError("It answers another request than ours.")
    if response.status is None:
        raise MalformedCommandError("The response has no status.")
    return response


def _violated(error: MalformedPduError | MalformedCommandError) -> Violated:
    return Violated(f"broke the protocol: {error}", retryable=True)

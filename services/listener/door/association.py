"""One association from its request to its end (PS3.8 9.2), in the thread that serves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.common.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from services.dimse import commands, pdu
from services.dimse.commands import Command
from services.dimse.pdu import AssociateRequest, MalformedPduError
from services.dimse.wire import ConnectionLostError, SilentPeerError
from services.listener.door.admission import PeerRule, Rejection
from services.listener.door.config import DoorConfig
from services.listener.door.messages import AssociationMalformed, AssociationRejected
from services.listener.door.negotiation import ACCEPTED, answer_contexts, answer_roles
from services.listener.door.statuses import StoreStatus
from services.listener.door.store import Facilities, Sender, StoreOperation
from services.listener.door.turns import WireInTurn

# PS3.8 table 9-21: result, source, reason.
_NO_SUCH_CONTEXT_NAME = ("application_context_not_supported", (1, 1, 2))
_NO_SUCH_VERSION = ("protocol_version_not_supported", (1, 2, 2))
_COMMAND_LIMIT = 64 << 10

Admit = Callable[[AssociateRequest], PeerRule | Rejection]


@dataclass(slots=True)
class Tally:
    """What an association brought.

    Attributes:
        studies: how many instances came, by study UID and SOP class UID.
        ended: released, aborted, silent, lost, malformed or rejected.
    """

    ae_title: str = ""
    instances: int = 0
    data_bytes: int = 0
    studies: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    ended: str = "lost"


class Association:
    """Serves one connection.

    Args:
        address: where the connection came from.
        name: the association's own among all that are open.
        admit: decides on the request, and occupies a slot for an admitted peer.

    Attributes:
        over: called when the association is over, before the peer hears of that: the peer may ask
            for the next association at once.
    """

    def __init__(
        self,
        wire: WireInTurn,
        config: DoorConfig,
        facilities: Facilities,
        address: str,
        admit: Admit,
        name: str = "",
    ) -> None:
        self._wire = wire
        self._address = address
        self._config = config
        self._facilities = facilities
        self._admit = admit
        self.over: Callable[[], None] = lambda: None
        self._name = name
        self._syntaxes: dict[int, tuple[str, str]] = {}
        self._sender = Sender("", "", "")
        self._command = b""
        self._store: tuple[StoreOperation, Command, int] | None = None
        self.tally = Tally()

    @property
    def peer(self) -> str:
        """The peer's name; empty before the peer was admitted."""
        return self._sender.peer

    @property
    def is_within(self) -> bool:
        """Whether a message has begun and its last fragment has not come."""
        return self._store is not None or bool(self._command)

    def serve(self) -> None:
        """Serves the association to its end.

        Raises:
            MainProcessGoneError: nothing may be acknowledged any more.
        """
        associated = False
        try:
            associated = self._negotiate()
            if associated:
                self._wire.set_patience(self._config.idle_timeout_s)
                with self._wire.in_turn():
                    while self._handle_pdu(*self._wire.read()):
                        pass
                if self.tally.ended == "released":
                    self._last_word(pdu.release_response())
        except (MalformedPduError, commands.MalformedCommandError) as error:
            self._abort(error)
        except SilentPeerError:
            self.tally.ended = "silent"
            if associated:  # who asked for nothing is told nothing (PS3.8 table 9-10, AA-2)
                self._last_word(pdu.abort(0))
        except ConnectionLostError:
            pass
        finally:
            self._discard()

    def _negotiate(self) -> bool:
        deadline = time.monotonic() + self._config.request_timeout_s
        kind, view = self._wire.read(deadline)
        if kind != pdu.A_ASSOCIATE_RQ:
            raise MalformedPduError(
                "The first PDU is no A-ASSOCIATE-RQ.",
                pdu.UNEXPECTED_PDU if kind in _KNOWN_PDUS else pdu.UNRECOGNISED_PDU,
            )
        body = bytes(view)
        request = pdu.parse_associate_request(body)
        self.tally.ae_title = request.calling_ae_title
        if request.application_context != pdu.APPLICATION_CONTEXT:
            return self._reject(request, *_NO_SUCH_CONTEXT_NAME)
        if not request.protocol_version & 1:
            return self._reject(request, *_NO_SUCH_VERSION)
        decided = self._admit(request)
        if isinstance(decided, Rejection):
            return self._reject(request, decided.reason, decided.code)
        self._sender = Sender(
            request.calling_ae_title,
            decided.name,
            decided.priority,
            self._name,
            decided.conflicts,
        )
        answers = answer_contexts(request, self._config.contexts, decided.may_negotiate)
        proposed = {context.context_id: context.abstract_syntax for context in request.contexts}
        self._syntaxes = {
            answer.context_id: (proposed[answer.context_id], answer.transfer_syntax)
            for answer in answers
            if answer.result == ACCEPTED
        }
        self._wire.send(
            pdu.associate_accept(
                body,
                answers,
                max_pdu_bytes=self._config.max_pdu_bytes,
                implementation_class_uid=IMPLEMENTATION_CLASS_UID,
                implementation_version=IMPLEMENTATION_VERSION_NAME,
                roles=answer_roles(request, self._config.contexts),
            )
        )
        return True

    def _handle_pdu(self, kind: int, body: memoryview) -> bool:
        """Acts on a PDU; False when the association is over."""
        if kind == pdu.P_DATA_TF:
            if len(body) > self._config.max_pdu_bytes:
                raise MalformedPduError(f"A P-DATA-TF of {len(body)} bytes.")
            self._handle_values(body)
            return True
        if kind == pdu.A_RELEASE_RQ:
            self.tally.ended = "released"
            return False
        if kind == pdu.A_ABORT:
            self.tally.ended = "aborted"
            return False
        raise MalformedPduError(
            f"A PDU of type {kind:02X}H at this point.",
            pdu.UNEXPECTED_PDU if kind in _KNOWN_PDUS else pdu.UNRECOGNISED_PDU,
        )

    def _handle_values(self, body: memoryview) -> None:
        for context_id, control, fragment in pdu.data_values(body):
            if context_id not in self._syntaxes:
                raise MalformedPduError("A presentation data value of no accepted context.")
            if control & 1:
                self._handle_command(fragment, context_id, last=bool(control & 2))
            else:
                self._handle_data(fragment, context_id, last=bool(control & 2))

    def _handle_command(self, fragment: memoryview, context_id: int, *, last: bool) -> None:
        if self._store is not None:
            raise MalformedPduError("A command within a data set.", pdu.UNEXPECTED_PDU)
        self._command += fragment
        if len(self._command) > _COMMAND_LIMIT:
            raise MalformedPduError("A command without end.")
        if not last:
            return
        command = commands.parse_command(self._command)
        self._command = b""
        if command.field == commands.C_STORE_RQ and command.has_data_set:
            accepted = self._syntaxes[context_id]
            operation = StoreOperation(self._facilities, command, *accepted, self._sender)
            self._store = (operation, command, context_id)
        elif command.field == commands.C_STORE_RQ:
            self._answer(command, context_id, StoreStatus.CANNOT_UNDERSTAND, "No data set.")
        elif command.has_data_set:
            raise MalformedPduError("A data set with a command that has none here.")
        elif command.field == commands.C_ECHO_RQ:
            self._answer(command, context_id, StoreStatus.SUCCESS)
        elif command.field != commands.C_CANCEL_RQ and not command.field & commands.RESPONSE:
            self._answer(command, context_id, commands.UNRECOGNISED_OPERATION)

    def _handle_data(self, fragment: memoryview, context_id: int, *, last: bool) -> None:
        if self._store is None or self._store[2] != context_id:
            raise MalformedPduError("A data set without its command.", pdu.UNEXPECTED_PDU)
        operation, command, _ = self._store
        operation.append(fragment)
        if not last:
            return
        received = operation.data_bytes
        status, comment = operation.finish()
        self._store = None
        if status is StoreStatus.SUCCESS:
            self.tally.instances += 1
            self.tally.data_bytes += received
            by_class = self.tally.studies.setdefault(operation.study_uid, {})
            by_class[command.sop_class_uid] = by_class.get(command.sop_class_uid, 0) + 1
        self._answer(command, context_id, status, comment)

    def _answer(self, command: Command, context_id: int, status: int, comment: str = "") -> None:
        self._wire.send(pdu.p_data(context_id, commands.response(command, status, comment)))

    def _reject(self, request: AssociateRequest, reason: str, code: tuple[int, int, int]) -> bool:
        self.tally.ended = "rejected"
        self._facilities.tell(
            AssociationRejected(
                reason=reason,
                called_ae_title=request.called_ae_title,
                ae_title=self.tally.ae_title,
                address=self._address,
            )
        )
        self._last_word(pdu.associate_reject(*code))
        return False

    def _abort(self, error: MalformedPduError | commands.MalformedCommandError) -> None:
        reason = getattr(error, "reason", pdu.INVALID_PARAMETER)
        self.tally.ended = "malformed"
        self._facilities.tell(AssociationMalformed(str(error), self.tally.ae_title, self._address))
        self._last_word(pdu.abort(reason))

    def _last_word(self, data: bytes) -> None:
        # The peer closes the connection (PS3.8 9.1.5); ARTIM bounds how long we wait for it.
        # Neither what is half here nor our place waits for that.
        self._discard()
        self.over()
        try:
            self._wire.send(data)
        except ConnectionLostError:
            return
        self._wire.drain(time.monotonic() + self._config.request_timeout_s)

    def _discard(self) -> None:
        if self._store is not None:
            self._store[0].discard()


_KNOWN_PDUS = frozenset(range(pdu.A_ASSOCIATE_RQ, pdu.A_ABORT + 1))

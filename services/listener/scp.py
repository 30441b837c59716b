"""The DICOM door: a pynetdicom acceptor for C-ECHO and C-STORE (PS3.4 A and B).

pynetdicom negotiates, splits and joins; whom to serve is decided in `peers`, what to answer in
`reception`. Each association has a thread of its own.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any

from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import ThreadedAssociationServer

from services.common.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from services.common.settings import ListenerSettings
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import ASSOCIATIONS_OPEN, ASSOCIATIONS_REJECTED
from services.listener.errors import ListenerError
from services.listener.peers import AssociationRequest, Rejection, admit, known_peer
from services.listener.presentation_contexts import accepted_contexts
from services.listener.reception import OfferedInstance
from services.listener.statuses import StoreStatus

_log = get_logger("listener")

# A connection that does not ask for an association within this time is closed (PS3.8 ARTIM).
_REQUEST_TIMEOUT_S = 10.0
# Connections that the kernel holds until we take them: a burst of senders is not turned away.
_BACKLOG = 64
# How soon the accepting loop notices that it is to stop; connections wake it at once.
_STOP_NOTICE_S = 1.0
# Linux only.
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)

Receive = Callable[[OfferedInstance], StoreStatus]


class _PromptSocket(socket.socket):
    """Acknowledges at once what it reads.

    Many senders (dcmtk, Orthanc) write command and data set separately with Nagle's algorithm
    on, and wait 40 ms for our delayed acknowledgement in between: 0.04 s for every instance.
    Linux forgets the option, so that it is set after every read.
    """

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        data = super().recv(bufsize, flags)
        if _QUICK_ACK is not None:
            self.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
        return data


class _Server(ThreadedAssociationServer):
    request_queue_size = _BACKLOG

    def get_request(self) -> tuple[socket.socket, Any]:
        """Takes a connection; called by the accepting loop."""
        client, address = super().get_request()
        prompt = _PromptSocket(client.family, client.type, client.proto, client.detach())
        return prompt, address

    def stop(self) -> None:
        """Ends the accepting loop and closes its socket; associations go on."""
        BaseServer.shutdown(self)
        self.server_close()


@dataclass(slots=True)
class _Served:
    """An association under way; written by its own thread."""

    peer: str
    opened_at: float
    instances: int = 0
    data_bytes: int = 0


class Scp:
    """Accepts associations while it is entered.

    Args:
        receive: answers for an offered instance; called from the associations' threads.
        finish_within_s: how long associations under way may go on after it is left.
    """

    def __init__(
        self, settings: ListenerSettings, receive: Receive, *, finish_within_s: float
    ) -> None:
        self._settings = settings
        self._receive = receive
        self._finish_within_s = finish_within_s
        self._changed = threading.Condition()
        self._served: dict[Association, _Served] = {}
        self._stopping = False
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Scp:
        _silence_pynetdicom()
        entity = _entity(self._settings)
        address = (self._settings.host, self._settings.port)
        try:
            server = entity.make_server(
                address,
                ae_title=self._settings.ae_title,
                contexts=entity.supported_contexts,
                evt_handlers=self._handlers(),
                server_class=_Server,
            )
        except OSError as error:
            raise ListenerError(
                f"Cannot listen on {address[0]}:{address[1]}: {error.strerror}."
            ) from error
        assert isinstance(server, _Server)
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(_STOP_NOTICE_S,), name="accept", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no new association, lets those under way finish, aborts what is left."""
        assert self._server is not None
        with self._changed:
            self._stopping = True
        self._server.stop()
        deadline = time.monotonic() + self._finish_within_s
        with self._changed:
            while self._served and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            unfinished = list(self._served)
        for association in unfinished:
            association.abort()
        if unfinished:
            _log.warning("associations_aborted", associations=len(unfinished))

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def alive(self) -> bool:
        """Whether associations are being accepted."""
        return self._thread is not None and self._thread.is_alive()

    def _handlers(self) -> list[Any]:
        return [
            (evt.EVT_REQUESTED, self._on_requested),
            (evt.EVT_CONN_CLOSE, self._on_closed),
            (evt.EVT_C_ECHO, self._on_echo),
            (evt.EVT_C_STORE, self._on_store),
        ]

    def _on_requested(self, event: evt.Event) -> None:
        association = event.assoc
        primitive: Any = association.requestor.primitive
        with self._changed:
            request = AssociationRequest(
                calling_ae_title=str(primitive.calling_ae_title),
                called_ae_title=str(primitive.called_ae_title),
                address=str(association.requestor.address),
                open_associations=len(self._served),
                stopping=self._stopping,
            )
            rejection = admit(request, self._settings)
            if rejection is None:
                known = known_peer(request, self._settings)
                name = known.name if known else request.calling_ae_title.strip()
                self._served[association] = _Served(name, time.monotonic())
                ASSOCIATIONS_OPEN.set(len(self._served))
        if rejection is not None:
            _reject(association, request, rejection)

    def _on_closed(self, event: evt.Event) -> None:
        with self._changed:
            served = self._served.pop(event.assoc, None)
            ASSOCIATIONS_OPEN.set(len(self._served))
            self._changed.notify_all()
        if served is not None:
            _log.info(
                "association_closed",
                peer=served.peer,
                instances=served.instances,
                bytes=served.data_bytes,
                seconds=round(time.monotonic() - served.opened_at, 3),
                aborted=bool(event.assoc.is_aborted),
            )

    def _on_echo(self, _event: evt.Event) -> int:
        return StoreStatus.SUCCESS

    def _on_store(self, event: evt.Event) -> int:
        request: Any = event.request
        offered = OfferedInstance(
            sop_class_uid=str(request.AffectedSOPClassUID),
            sop_instance_uid=str(request.AffectedSOPInstanceUID),
            transfer_syntax_uid=str(event.context.transfer_syntax),
            peer=str(event.assoc.requestor.ae_title).strip(),
            data=event.encoded_dataset(include_meta=False),
        )
        status = self._receive(offered)
        served = self._served.get(event.assoc)
        if served is not None and status is StoreStatus.SUCCESS:
            served.instances += 1
            served.data_bytes += len(offered.data)
        return int(status)


def _entity(settings: ListenerSettings) -> ApplicationEntity:
    entity = ApplicationEntity(ae_title=settings.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.maximum_pdu_size = settings.max_pdu_bytes
    # Whom to serve, and how many at once, is decided in `peers`; rejected associations that are
    # still closing must not count.
    entity.maximum_associations = 1_000_000
    entity.acse_timeout = _REQUEST_TIMEOUT_S
    entity.network_timeout = settings.idle_timeout_s
    for context in accepted_contexts():
        entity.add_supported_context(context.sop_class_uid, list(context.transfer_syntaxes))
    return entity


def _reject(association: Association, request: AssociationRequest, rejection: Rejection) -> None:
    ASSOCIATIONS_REJECTED.labels(rejection.reason).inc()
    _log.warning(
        "association_rejected",
        reason=rejection.reason,
        calling_ae_title=request.calling_ae_title.strip(),
        called_ae_title=request.called_ae_title.strip(),
        address=request.address,
    )
    association.acse.send_reject(*rejection.code)
    association.kill()  # returns when the rejection is sent and the connection closed


def _silence_pynetdicom() -> None:
    # Its own event log quotes commands and identifiers; ours says what counts.
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False

"""A receiver process: accepts connections and gives each a thread of its own.

``python -m services.listener.door CONTROL SLOTS RECEIVERS ROW PLAIN [SECURE]`` - descriptors that
the main process passes on, and this receiver's row of the counters. Its configuration is the first
message it is sent. It ends when it is told to, or when the main process is gone: what it has
acknowledged is on disk, and is found there at the next start.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import select
import signal
import socket
import ssl
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from services.dimse.pdu import AssociateRequest
from services.dimse.tls import (
    TlsContexts,
    TlsError,
    TlsFiles,
    peer_certificate,
    shake_hands,
    wrap,
)
from services.listener.door.admission import (
    AssociationRequest,
    PeerRule,
    Rejection,
    find_room,
    identify,
)
from services.listener.door.association import Association
from services.listener.door.channel import Channel
from services.listener.door.config import DoorConfig
from services.listener.door.messages import (
    Answer,
    AssociationClosed,
    AssociationOpened,
    AssociationsAborted,
    Begin,
    ConnectionFailed,
    Ended,
    Failed,
    Ping,
    Pong,
    Ready,
    Stop,
    TlsFilesChanged,
    TlsRefused,
    Unknown,
)
from services.listener.door.outbox import MainProcessGoneError, Outbox
from services.listener.door.slots import Slots
from services.listener.door.spool import Spool
from services.listener.door.store import Facilities
from services.listener.door.turns import Turns, WireInTurn

# Connections without an association, that have not asked for one yet or linger after its end:
# beyond these the oldest is closed, so that they cannot keep others out.
MOST_PENDING = 64
# How long the door waits for a connection to end when the system gives no more of them.
_ROOM_WITHIN_S = 0.1
# How long an association's thread may hold the interpreter before another gets it: its work
# between two system calls is far shorter.
_SWITCH_INTERVAL_S = 0.001
# How many associations of a receiver are worked for at a time; those that wait for their peers do
# not count. One has the interpreter while the other is with the disk. With two hundred associations
# to two receivers, four took a fifth longer and let some wait half as long again.
_WORKING = 2
# Each thread's stack; the calls are shallow.
_STACK_BYTES = 512 << 10


class Receiver:
    """Serves the connections that come on some listening sockets.

    Args:
        listening: (socket, whether it speaks TLS).
    """

    def __init__(
        self,
        config: DoorConfig,
        outbox: Outbox,
        slots: Slots,
        listening: list[tuple[socket.socket, bool]],
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._slots = slots
        self._listening = listening
        self._turns = Turns(_WORKING)
        self._facilities = Facilities(
            spool=Spool(Path(config.spool), config.max_instance_bytes),
            scheme=config.scheme,
            watermark_bytes=config.watermark_bytes,
            tell=outbox.tell,
            is_conflict=self._ask,
        )
        self._tls = (
            None if config.tls is None else TlsContexts(TlsFiles(**config.tls), self._report_files)
        )
        self._numbers = itertools.count(1)  # of associations
        self._changed = threading.Condition()
        self._serving: set[socket.socket] = set()
        self._pending: deque[socket.socket] = deque()
        self._stopping = False
        self._wake, self._woken = socket.socketpair()

    def run(self) -> None:
        """Accepts until `stop`; returns when no connection is served any more."""
        poll = select.poll()
        doors = {door.fileno(): (door, secure) for door, secure in self._listening}
        for descriptor in (*doors, self._woken.fileno()):
            poll.register(descriptor, select.POLLIN)
        while not self._stopping:
            for descriptor, _ in poll.poll():
                if descriptor in doors:
                    self._accept(*doors[descriptor])
        for door, _ in doors.values():
            door.close()
        with self._changed:
            while self._serving:
                self._changed.wait()

    def stop(self, within_s: float) -> None:
        """Accepts no more; closes what is still served after that time. From another thread."""
        with self._changed:
            self._stopping = True
            self._wake.send(b"x")
            deadline = time.monotonic() + within_s
            while self._serving and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            unfinished = list(self._serving)
        for connection in unfinished:
            _break(connection)
        if unfinished:
            self._outbox.tell(AssociationsAborted(len(unfinished)))

    def _accept(self, door: socket.socket, secure: bool) -> None:
        try:
            connection, address = door.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._make_room()
            return  # else it was closed again
        connection.setblocking(True)
        with self._changed:
            self._hold(connection)
            self._serving.add(connection)
        thread = threading.Thread(
            target=self._serve, args=(connection, address[0], secure), daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            self._end(connection, connection)

    def _serve(self, connection: socket.socket, address: str, secure: bool) -> None:
        served = connection
        open_for: PeerRule | None = None  # as long as it has a slot
        association: Association | None = None
        name = f"{Path(self._config.spool).name}.{next(self._numbers)}"
        opened_at = time.monotonic()

        def decide(request: AssociateRequest) -> PeerRule | Rejection:
            nonlocal open_for
            decided = self._admit(request, served, address, connection)
            open_for = decided if isinstance(decided, PeerRule) else None
            return decided

        def over() -> bool:
            nonlocal open_for
            if open_for is None or association is None:
                return False
            self._slots.give_back(open_for.name)
            open_for = None
            self._tell_of_end(association, name, address, opened_at, secure=secure)
            return True

        def linger() -> None:
            if over():
                with self._changed:
                    self._hold(served)  # until the peer closes the connection

        try:
            if secure:
                served = secured = self._secured(connection)
                shake_hands(secured, self._config.handshake_timeout_s)
            wire = WireInTurn(served, self._config.max_pdu_bytes, self._turns)
            association = Association(wire, self._config, self._facilities, address, decide, name)
            association.over = linger
            try:
                association.serve()
            finally:
                over()
        except TlsError as error:
            self._outbox.tell(TlsRefused(error.reason, str(error), address))
        except MainProcessGoneError:
            os._exit(1)  # nothing may be acknowledged any more
        except OSError as error:  # memory or descriptors are short: this connection's end only
            self._outbox.tell(ConnectionFailed(error.strerror or ""))
        finally:
            association = None  # it knows us: without this its buffer stayed until it is collected
            self._end(connection, served)

    def _tell_of_end(
        self, association: Association, name: str, address: str, opened_at: float, *, secure: bool
    ) -> None:
        tally = association.tally
        self._outbox.tell(
            AssociationClosed(
                association=name,
                peer=association.peer,
                ae_title=tally.ae_title,
                address=address,
                secure=secure,
                instances=tally.instances,
                data_bytes=tally.data_bytes,
                seconds=round(time.monotonic() - opened_at, 3),
                ended=tally.ended,
                instances_by_study=tally.studies,
                within=association.is_within,
            )
        )

    def _secured(self, connection: socket.socket) -> ssl.SSLSocket:
        assert self._tls is not None, "a secure door is opened with TLS files only"
        secured = wrap(self._tls.current(), connection)
        with self._changed:  # `connection` has handed its descriptor over
            self._serving.discard(connection)
            self._serving.add(secured)
            if connection in self._pending:
                # In its place: how long it has waited does not begin anew.
                self._pending[self._pending.index(connection)] = secured
            else:
                # Turned away meanwhile, perhaps after its descriptor had gone.
                _break(secured)
        return secured

    def _admit(
        self,
        request: AssociateRequest,
        served: socket.socket,
        address: str,
        connection: socket.socket,
    ) -> PeerRule | Rejection:
        certificate = peer_certificate(served) if isinstance(served, ssl.SSLSocket) else None
        with self._changed:
            for socket_ in (connection, served):
                if socket_ in self._pending:
                    self._pending.remove(socket_)
        asked = AssociationRequest(
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            address=address,
            open_associations=0,
            certificate=certificate,
        )
        # Who it is may depend on a name server: asked before the lock is taken that all receivers
        # share.
        decided = identify(asked, self._config.admission)
        if isinstance(decided, PeerRule):
            decided = self._give_room(decided, asked)
        if isinstance(decided, Rejection):
            with self._changed:
                self._hold(served)  # until it closes the connection
        else:
            self._outbox.tell(
                AssociationOpened(
                    peer=decided.name,
                    ae_title=request.calling_ae_title,
                    address=address,
                    certificate_sha256=certificate.sha256 if certificate else "",
                )
            )
        return decided

    def _give_room(self, peer: PeerRule, asked: AssociationRequest) -> PeerRule | Rejection:
        with self._slots.admitting() as occupy:
            now = replace(
                asked,
                open_associations=self._slots.open_associations(),
                open_by_peer=self._slots.open_by_peer(),
                stopping=self._stopping,
            )
            full = find_room(peer, now, self._config.admission)
            if full is not None:
                return full
            occupy(peer.name)
        return peer

    def _hold(self, connection: socket.socket) -> None:
        if len(self._pending) >= MOST_PENDING:
            _break(self._pending.popleft())
        self._pending.append(connection)

    def _make_room(self) -> None:
        # No descriptor is left for who knocks: the oldest that has no association goes.
        with self._changed:
            if self._pending:
                _break(self._pending.popleft())
            self._changed.wait(_ROOM_WITHIN_S)

    def _end(self, connection: socket.socket, served: socket.socket) -> None:
        served.close()
        with self._changed:
            for socket_ in (connection, served):
                self._serving.discard(socket_)
                if socket_ in self._pending:
                    self._pending.remove(socket_)
            self._changed.notify_all()

    def _ask(self, sop_instance_uid: str, digest: str, syntax: str) -> bool:
        with self._turns.away():
            return self._outbox.ask(sop_instance_uid, digest, syntax)

    def _report_files(self, problem: TlsError | None) -> None:
        self._outbox.tell(TlsFilesChanged(None if problem is None else str(problem)))


def main(arguments: list[str]) -> int:
    """Runs a receiver until the main process has it stop; returns the exit code."""
    # Ctrl-C in a terminal goes to the whole group; the main process says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    threading.stack_size(_STACK_BYTES)
    control, slots_descriptor, receivers, row, plain, *secure = map(int, arguments)
    channel = Channel(socket.socket(fileno=control))
    first = channel.receive()
    if not isinstance(first, Begin):
        return 1
    config = first.config
    names = [peer.name for peer in config.admission.peers]
    slots = Slots(slots_descriptor, receivers, names, row)
    listening = [(socket.socket(fileno=plain), False)]
    listening += [(socket.socket(fileno=descriptor), True) for descriptor in secure]
    for door, _ in listening:
        door.setblocking(False)
    outbox = Outbox(channel)
    try:
        receiver = Receiver(config, outbox, slots, listening)
    except Exception as error:  # noqa: BLE001 - the main process shows it and ends
        outbox.tell(Failed(str(error)))
        return 1
    threading.Thread(target=_obey, args=(channel, outbox, receiver), daemon=True).start()
    gc.freeze()  # what is there now stays
    outbox.tell(Ready())
    receiver.run()
    outbox.tell(Ended())
    return 0


def _obey(channel: Channel, outbox: Outbox, receiver: Receiver) -> None:
    while (message := channel.receive()) is not None:
        match message:
            case Ping(number):
                outbox.tell(Pong(number))
            case Answer(number, conflict):
                outbox.hear_answer(number, conflict)
            case Stop(within_s):
                threading.Thread(target=receiver.stop, args=(within_s,), daemon=True).start()
            case _:  # nothing that a receiver of this version does
                outbox.tell(Unknown(message.kind if isinstance(message, Unknown) else ""))
    os._exit(1)  # the main process is gone


def _break(connection: socket.socket) -> None:
    # Wakes the thread that reads from it.
    try:
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # of TLS nothing else
    except OSError:
        return

"""The receiver processes: started, listened to, started again, stopped.

The main process binds the ports and keeps them: a receiver that dies loses its associations, but
no connection that waits to be accepted. What it had acknowledged is in its spool; what it had not
told of is found there (`recovery`).
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.common.headers import scheme
from services.common.settings import Settings
from services.common.telemetry import get_logger
from services.listener.backoff import backoff_s
from services.listener.door.channel import Channel
from services.listener.door.config import DoorConfig
from services.listener.door.messages import (
    Answer,
    Begin,
    DoorEvent,
    Ended,
    Failed,
    Message,
    Ping,
    Pong,
    Question,
    Ready,
    RequestEnded,
    Stop,
    Stored,
    Unknown,
)
from services.listener.door.slots import Slots
from services.listener.door.store import IsConflict
from services.listener.errors import ListenerError
from services.listener.peers.admission_rules import admission_rules, tls_files
from services.listener.peers.presentation_contexts import accepted_contexts

_log = get_logger("listener")

# Connections that the kernel holds until we take them: a burst of senders is not turned away.
_BACKLOG = 128
_START_DEADLINE_S = 20.0
# A receiver that lived this long has earned a prompt restart.
_HEALTHY_AFTER_S = 30.0


class Receivers:
    """Serves the DICOM ports while the context is open.

    Args:
        on_stored: called with each instance that was stored, before its sender hears of success or
            shortly after; may wait, which slows the senders down.
        on_event: called with what a receiver says for the log, the counters and the audit trail.
        on_lost: called with the spool folder of a receiver that died, before the folder is used
            again.
        finish_within_s: how long associations under way may go on after the context is left.
        is_conflict: tells whether other bytes are known under a SOP Instance UID.
    """

    def __init__(
        self,
        settings: Settings,
        on_stored: Callable[[Stored], None],
        on_event: Callable[[DoorEvent | Unknown], None],
        on_lost: Callable[[Path], None],
        *,
        finish_within_s: float,
        is_conflict: IsConflict = lambda *_: False,
    ) -> None:
        self._settings = settings
        self._on_stored = on_stored
        self._on_event = on_event
        self._on_lost = on_lost
        self._is_conflict = is_conflict
        # Questions wait for the database; nothing else that a receiver tells waits for that.
        self._answering = ThreadPoolExecutor(1, thread_name_prefix="conflicts")
        self._finish_within_s = finish_within_s
        door = settings.listener
        self._config = _config(settings)
        self._count = door.receivers
        peers = [peer.name for peer in self._config.admission.peers]
        self._slots_file = Slots.create(self._count, len(peers))
        self.slots = Slots(self._slots_file, self._count, peers, -1)
        self._plain: list[socket.socket] = []
        self._secure: list[socket.socket] = []
        self._receivers: list[_Receiver] = []

    def __enter__(self) -> Receivers:
        door = self._settings.listener
        self._plain = _listen(door.host, door.port, self._count)
        if door.tls.port is not None:
            self._secure = _listen(door.host, door.tls.port, self._count)
        for row in range(self._count):
            sockets = [self._plain[row], *self._secure[row : row + 1]]
            config = replace(self._config, spool=str(self._settings.spool_dir / f"door-{row}"))
            self._receivers.append(
                _Receiver(row, self._count, config, sockets, self._slots_file, self)
            )
        with contextlib.ExitStack() as undo:
            undo.callback(self.__exit__)
            for receiver in self._receivers:
                receiver.start()
            for receiver in self._receivers:
                receiver.wait_until_ready()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no new association, lets those under way finish, ends what is left."""
        for receiver in self._receivers:
            receiver.begin_to_stop(self._finish_within_s)
        for receiver in self._receivers:
            receiver.finish(self._finish_within_s)
        self._answering.shutdown(cancel_futures=True)
        for door in (*self._plain, *self._secure):
            door.close()

    @property
    def port(self) -> int:
        """The port without TLS."""
        return int(self._plain[0].getsockname()[1])

    @property
    def secure_port(self) -> int | None:
        """The port with TLS; None when there is none."""
        return int(self._secure[0].getsockname()[1]) if self._secure else None

    def alive(self) -> bool:
        """Whether every receiver runs."""
        return all(receiver.alive() for receiver in self._receivers)

    def drain(self, timeout_s: float) -> bool:
        """Waits until everything acknowledged before this call was given to `on_stored`.

        False when a receiver does not answer in time.
        """
        deadline = time.monotonic() + timeout_s
        pings = [receiver.ping() for receiver in self._receivers]
        return all(ping.wait(max(0.0, deadline - time.monotonic())) for ping in pings)

    def stored(self, message: Stored) -> None:
        """A receiver stored an instance."""
        self._on_stored(message)

    def event(self, message: DoorEvent | Unknown) -> None:
        """A receiver says something for the log, the counters or the audit trail."""
        self._on_event(message)

    def asked(self, question: Question, answer: Callable[[bool | None], None]) -> None:
        """A receiver asks whether an instance is known with other bytes."""

        def find_out() -> None:
            conflict: bool | None = None
            try:
                conflict = self._is_conflict(
                    question.sop_instance_uid, question.digest, question.syntax
                )
            except Exception as error:  # noqa: BLE001 - the sender hears that it is not known
                _log.warning("conflict_not_looked_up", problem=type(error).__name__)
            answer(conflict)

        self._answering.submit(find_out)

    def lost(self, spool: Path) -> None:
        """A receiver died."""
        self._on_lost(spool)


class _Receiver:
    """One receiver, whichever process it is at present; watched by a thread of its own."""

    def __init__(
        self,
        row: int,
        count: int,
        config: DoorConfig,
        sockets: list[socket.socket],
        slots_file: int,
        owner: Receivers,
    ) -> None:
        self._row = row
        self._count = count
        self._config = config
        self._sockets = sockets
        self._slots_file = slots_file
        self._owner = owner
        self._lock = threading.Lock()
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._decided = threading.Event()  # whether its first start succeeds
        self._ready = False  # it was, once
        self._serving = False
        self._problem: str | None = None
        self._pings: dict[int, threading.Event] = {}
        # It died, and what it had acknowledged and not told of lies in its spool.
        self._lost = False
        self._thread = threading.Thread(target=self._watch, name=f"receiver-{row}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait_until_ready(self) -> None:
        if not self._decided.wait(_START_DEADLINE_S) or not self._ready:
            raise ListenerError(self._problem or "A receiver did not start.")

    def alive(self) -> bool:
        process = self._process
        return self._serving and process is not None and process.poll() is None

    def ping(self) -> threading.Event:
        """Set as soon as everything that it acknowledged before this call was told of."""
        answered = threading.Event()
        with self._lock:
            channel = self._channel
            if channel is None and not self._lost:
                answered.set()  # there is no process, and its spool was recovered
                return answered
            number = max(self._pings, default=0) + 1
            self._pings[number] = answered
        if channel is not None:
            with contextlib.suppress(OSError):  # it died: the ping is answered by recovery
                channel.send(Ping(number))
        return answered

    def begin_to_stop(self, within_s: float) -> None:
        self._stopping.set()
        channel = self._channel
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.send(Stop(within_s))

    def finish(self, within_s: float) -> None:
        if not self._thread.is_alive():
            return
        self._thread.join(within_s + 1.0)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        self._thread.join()

    def _watch(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            begun = time.monotonic()
            try:
                self._run()
            except Exception as error:  # noqa: BLE001 - whatever it was, it may be over in a moment
                _log.error("receiver_not_started", receiver=self._row, problem=type(error).__name__)
            if self._stopping.is_set() or (self._decided.is_set() and not self._ready):
                return
            failures = 1 if time.monotonic() - begun > _HEALTHY_AFTER_S else failures + 1
            _log.error(
                "receiver_died", receiver=self._row, failures=failures, problem=self._problem
            )
            self._recover()
            self._stopping.wait(backoff_s(failures, 0.0))

    def _recover(self) -> None:
        """Has what lies in the spool taken up: no other process writes into it before that."""
        failures = 0
        while not self._stopping.is_set():
            try:
                self._owner.slots.clear(self._row)
                self._owner.lost(Path(self._config.spool))
            except Exception as error:  # noqa: BLE001 - as above
                failures += 1
                _log.error("spool_not_recovered", receiver=self._row, problem=type(error).__name__)
                self._stopping.wait(backoff_s(failures, 0.0))
                continue
            self._answer_pings()
            return

    def _answer_pings(self) -> None:
        with self._lock:
            self._lost = False
            pings, self._pings = self._pings, {}
        for answered in pings.values():
            answered.set()

    def _run(self) -> None:
        """Starts a process and takes its messages until it ends.

        Raises:
            OSError: the system gives no process.
        """
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            with theirs:
                process = self._spawn(theirs)
        except BaseException:
            channel.close()
            raise
        with self._lock:
            self._process, self._channel, self._lost, self._problem = process, channel, True, None
        try:
            if self._stopping.is_set():
                return
            channel.send(Begin(self._config))
            while (message := channel.receive()) is not None:
                self._hear(message)
        except OSError:
            pass
        finally:
            with self._lock:
                self._channel = None
            self._serving = False
            channel.close()
            process.wait()

    def _spawn(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = [theirs.fileno(), self._slots_file, *(s.fileno() for s in self._sockets)]
        control, slots, *doors = map(str, descriptors)
        argv = [sys.executable, "-m", "services.listener.door", control, slots]
        argv += [str(self._count), str(self._row), *doors]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, pass_fds=descriptors)

    def _answer(self, number: int, conflict: bool | None) -> None:
        channel = self._channel
        if channel is not None:
            with contextlib.suppress(OSError):  # it died, and its sender with its association
                channel.send(Answer(number, conflict))

    def _hear(self, message: Message) -> None:
        match message:
            case Stored():
                self._owner.stored(message)
            case Question(number):
                self._owner.asked(message, partial(self._answer, number))
            case Pong(number):
                with self._lock:
                    answered = self._pings.pop(number, None)
                if answered is not None:
                    answered.set()
            case Ready():
                self._ready = self._serving = True
                self._decided.set()
            case Ended():
                self._answer_pings()  # all was told before that
            case Failed(problem):
                # At the first start that is final; later it may be over in a moment.
                self._problem = problem
                self._decided.set()
            case RequestEnded() | Begin() | Ping() | Answer() | Stop():
                _log.error("receiver_message_unexpected", message=type(message).__name__)
            case _:
                self._owner.event(message)


def _config(settings: Settings) -> DoorConfig:
    door = settings.listener
    return DoorConfig(
        admission=admission_rules(door),
        scheme=scheme(),
        contexts={
            context.sop_class_uid: context.transfer_syntaxes
            for context in accepted_contexts(door.private_sop_classes)
        },
        spool="",
        watermark_bytes=settings.store.min_free_bytes,
        max_pdu_bytes=door.max_pdu_bytes,
        max_instance_bytes=door.max_instance_bytes,
        request_timeout_s=door.request_timeout_s,
        idle_timeout_s=door.idle_timeout_s,
        handshake_timeout_s=door.tls.handshake_timeout_s,
        tls=None if door.tls.port is None else tls_files(settings.listener.tls).as_json(),
    )


def _listen(host: str, port: int, count: int) -> list[socket.socket]:
    """One socket for each receiver on one port: the kernel spreads connections over them.

    Raises:
        ListenerError: the port cannot be had.
    """
    sockets: list[socket.socket] = []
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        for _ in range(count):
            door = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(door)
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if count > 1:
                door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound = sockets[0].getsockname()[1] if len(sockets) > 1 else port
            door.bind((address[0], bound))
            door.listen(_BACKLOG)
    except OSError as error:
        for door in sockets:
            door.close()
        raise ListenerError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    return sockets

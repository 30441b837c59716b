"""Whoever waits for the door's places, files or messages is served in the order of coming."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from services.listener.door import ready_files
from services.listener.door.channel import Channel
from services.listener.door.messages import (
    AssociationsAborted,
    ConnectionFailed,
    Stored,
    Told,
)
from services.listener.door.outbox import MainProcessGoneError, Outbox
from services.listener.door.part10 import FileMeta
from services.listener.door.ready_files import ReadyFiles
from services.listener.door.spool import SpooledFile
from services.listener.door.turns import Turns, WireInTurn
from tests.builders.peers import wait_until

MANY = 60
Pair = tuple[socket.socket, socket.socket]


def started(do: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread


def test_places_are_handed_over_in_order_and_never_too_many_work() -> None:
    turns = Turns(2)
    order: list[int] = []
    working, most = [0], [0]
    lock = threading.Lock()

    def work(number: int) -> None:
        turns.take()
        with lock:
            order.append(number)
            working[0] += 1
            most[0] = max(most[0], working[0])
        with lock:
            working[0] -= 1
        turns.give_back()

    turns.take()
    turns.take()
    threads = list[threading.Thread]()
    for number in range(MANY):
        threads.append(started(lambda number=number: work(number)))
        wait_until(lambda: len(turns._waiting) == len(threads), 20, "it waits")  # pyright: ignore[reportPrivateUsage]
    turns.give_back()
    for thread in threads:
        thread.join(20)
    assert order == list(range(MANY))
    assert most[0] == 1  # the other place is ours still
    turns.give_back()
    for _ in range(2):
        turns.take()


def test_a_thread_that_is_away_leaves_its_place_to_others() -> None:
    turns = Turns(1)
    turns.take()
    with turns.away():
        other = started(turns.take)
        other.join(20)
        assert not other.is_alive()
        turns.give_back()
    assert turns._free == 0  # pyright: ignore[reportPrivateUsage]


def test_a_connection_holds_no_place_while_its_peer_is_waited_for() -> None:
    turns = Turns(1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire = WireInTurn(_tcp(ours), 16384, turns)
        read: list[bytes] = []

        def serve() -> None:
            with wire.in_turn():
                read.append(bytes(wire.read()[1]))
                wire.send(b"x" * (8 << 20))  # more than the system keeps for the peer

        served = started(serve)
        turns.take()  # while it reads
        theirs.sendall(b"\x04\x00\x00\x00\x00\x02hi")
        served.join(0.05)
        assert read == []  # it has come, and its turn has not
        turns.give_back()
        wait_until(lambda: read == [b"hi"], 20, "it is read")
        turns.take()  # while it sends
        turns.give_back()
        left = 8 << 20
        while left:
            left -= len(theirs.recv(1 << 20))
        served.join(20)
        assert not served.is_alive()
    turns.take()


def test_files_are_handed_out_in_the_order_in_which_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready_files, "_MADE_AT_ONCE", 2)
    go_on = threading.Semaphore(0)
    monkeypatch.setattr(ready_files, "os", _HeldUpOs(go_on))
    ready = ReadyFiles(tmp_path)
    got: dict[int, str] = {}
    failed: list[OSError] = []

    def ask(number: int) -> None:
        try:
            path, descriptor = ready.pop()
        except OSError as error:
            failed.append(error)
            return
        got[number] = path
        os.close(descriptor)

    threads = list[threading.Thread]()
    for number in range(MANY):
        threads.append(started(lambda number=number: ask(number)))
        waiting = ready._waiting  # pyright: ignore[reportPrivateUsage]
        wait_until(lambda: len(waiting) == len(threads), 20, "it waits")  # noqa: B023
    # The first two are made for the first two; then as many as wait, and two more.
    go_on.release()
    go_on.release()
    for thread in threads:
        thread.join(20)
    assert not failed
    assert [got[number] for number in range(MANY)] == sorted(got.values())
    go_on.release()
    ready.close()
    assert len(list(tmp_path.iterdir())) == MANY


def test_whoever_waits_for_a_file_hears_that_none_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Semaphore(0)
    held_up = _HeldUpOs(go_on)
    monkeypatch.setattr(ready_files, "os", held_up)
    ready = ReadyFiles(tmp_path)
    told: list[str] = []

    def ask() -> None:
        with pytest.raises(OSError, match="No space") as raised:
            ready.pop()
        told.append(str(raised.value))

    threads = [started(ask) for _ in range(3)]
    waiting = ready._waiting  # pyright: ignore[reportPrivateUsage]
    wait_until(lambda: len(waiting) == len(threads), 20, "all wait")
    held_up.failure = OSError(28, "No space left on device")
    go_on.release()
    for thread in threads:
        thread.join(20)
    assert len(told) == 3
    held_up.failure = None
    go_on.release()
    path, descriptor = ready.pop()
    os.close(descriptor)
    assert Path(path).exists()
    ready.close()


@pytest.fixture
def pair() -> Generator[Pair]:
    """A receiver's end and the main process's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_every_message_is_sent_and_in_order_while_the_main_process_is_behind(pair: Pair) -> None:
    ours, theirs = pair
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    outbox, main_process = Outbox(Channel(ours)), Channel(theirs)
    rounds = 40

    def tell(sender: int) -> None:
        for number in range(rounds):
            outbox.tell(_stored(sender, number))

    threads = [started(lambda sender=sender: tell(sender)) for sender in range(MANY)]
    heard: dict[str, list[int]] = {}
    for _ in range(MANY * rounds):
        message = main_process.receive()
        assert isinstance(message, Stored)
        heard.setdefault(message.association, []).append(int(message.series_uid))
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert heard == {str(sender): list(range(rounds)) for sender in range(MANY)}


def test_what_is_no_instance_was_sent_when_telling_returns(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(Channel(ours))
    outbox.tell(_stored(0, 0))
    outbox.tell(AssociationsAborted(1))
    theirs.setblocking(False)
    assert theirs.recv(1 << 16)


def test_nothing_is_told_when_the_main_process_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(Channel(ours))
    theirs.close()
    for message in (ConnectionFailed("first"), _stored(0, 0)):
        with pytest.raises(MainProcessGoneError):
            outbox.tell(message)


def test_a_message_that_cannot_be_sent_leaves_nobody_waiting(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Channel(pair[0])

    def fail(*_: Told) -> None:
        raise ValueError("nobody thought of this")

    monkeypatch.setattr(channel, "send", fail)
    outbox = Outbox(channel)
    refused: list[bool] = []
    threads = [started(lambda: refused.append(_told(outbox))) for _ in range(MANY)]
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert refused == [True] * MANY


def _told(outbox: Outbox) -> bool:
    try:
        outbox.tell(ConnectionFailed(""))
    except MainProcessGoneError:
        return True
    return False


class _HeldUpOs:
    """The system's calls; each sync of a folder waits until it may go on, or fails."""

    def __init__(self, go_on: threading.Semaphore) -> None:
        self._go_on = go_on
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def fsync(self, descriptor: int) -> None:
        assert self._go_on.acquire(timeout=20)
        if self.failure is not None:
            raise self.failure
        os.fsync(descriptor)


def _stored(sender: int, number: int) -> Told:
    file = SpooledFile(f"/spool/{number}", FileMeta("1.2", "1.3", "1.4", "A"), 8, "0-8", 0.0)
    return Stored(file, "1.5", str(number), None, "", "", str(sender))


def _tcp(connection: socket.socket) -> socket.socket:
    # A socket pair has no TCP to set options of.
    class Pretender:
        def setsockopt(self, *_: object) -> None:
            pass

        def __getattr__(self, name: str) -> object:
            return getattr(connection, name)

    return Pretender()  # pyright: ignore[reportReturnType]

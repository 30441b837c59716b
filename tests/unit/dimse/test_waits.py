"""Every wait of an association has a deadline, and can be cut."""

from __future__ import annotations

import threading
import time

import pytest

from services.dimse import commands, pdu
from services.dimse.errors import (
    AssociationError,
    NoAnswer,
)
from tests.builders.acceptor import Caller, acceptor
from tests.builders.asking import CT, asked, request
from tests.builders.peers import wait_until


def test_no_answer_in_time_is_told_and_aborted() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.read_request()
        assert caller.read()[0] == pdu.A_ABORT

    with acceptor(script) as port, asked(port, answer_timeout_s=0.3) as association:
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.3 s"):
            association.store(request())
        assert time.monotonic() - begun < 2


def test_an_answer_that_comes_in_drops_has_a_deadline() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.read_request()
        for byte in pdu.p_data(context_id, commands.response(command, 0)):
            try:
                caller.send(bytes((byte,)))
            except OSError:
                return
            time.sleep(0.05)  # what the peer does, not what we wait for

    with acceptor(script) as port, asked(port, answer_timeout_s=0.5) as association:
        begun = time.monotonic()
        with pytest.raises(NoAnswer):
            association.store(request())
        assert time.monotonic() - begun < 2


def test_who_reads_nothing_any_more_is_given_up() -> None:
    over = threading.Event()

    def script(caller: Caller) -> None:
        caller.accept()
        over.wait(20)

    with acceptor(script) as port, asked(port, answer_timeout_s=0.5) as association:
        begun = time.monotonic()
        with pytest.raises(NoAnswer):
            association.store(request(bytes(64 << 20)))
        assert time.monotonic() - begun < 4
        over.set()


def test_who_reads_slowly_is_not_given_up() -> None:
    """Longer than the wait for an answer as a whole, but never without progress."""
    data = bytes(32 << 20)

    def script(caller: Caller) -> None:
        caller.accept(1 << 20)
        received = 0
        while received < len(data):
            received += len(caller.connection.recv(256 << 10))
            time.sleep(0.02)  # what the peer does, not what we wait for
        response = commands.Command(commands.C_STORE_RQ, 1, True, CT, "1.2.3.4", "")
        caller.answer(response, 1, 0x0000)
        caller.read()

    pieces: list[float] = []
    with (
        acceptor(script, receive_buffer=128 << 10) as port,
        asked(port, answer_timeout_s=1.0) as association,
    ):
        begun = time.monotonic()
        status = association.store(request(data), lambda: pieces.append(time.monotonic())).status
        assert status == 0x0000
        assert time.monotonic() - begun > 1.0
    assert len(pieces) >= 32


def test_who_does_not_answer_the_release_is_left() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        assert caller.read()[0] == pdu.A_RELEASE_RQ
        assert caller.read()[0] == 0

    with acceptor(script) as port:
        begun = time.monotonic()
        with asked(port, connect_timeout_s=0.3):
            pass
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("answers", [b"", b"\2\0\0\0\0\xc8" + bytes(50), b"\7"])
def test_an_association_that_is_not_answered_whole_is_given_up(answers: bytes) -> None:
    over = threading.Event()

    def script(caller: Caller) -> None:
        caller.read()
        caller.send(answers)
        over.wait(20)

    with acceptor(script) as port:
        with (
            pytest.raises(NoAnswer, match="did not answer the association request"),
            asked(port, connect_timeout_s=0.3),
        ):
            pass
        over.set()


@pytest.mark.parametrize("when", ["associating", "answering"])
def test_cutting_it_from_another_thread_ends_it_at_once(when: str) -> None:
    over = threading.Event()

    def script(caller: Caller) -> None:
        if when == "answering":
            caller.accept()
        over.wait(20)

    with acceptor(script) as port:
        association = asked(port, connect_timeout_s=30.0, answer_timeout_s=30.0)
        ended: list[AssociationError] = []

        def run() -> None:
            try:
                with association:
                    association.store(request())
            except AssociationError as error:
                ended.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: association.is_open or when == "associating", 10, "it is there")
        association.cut()
        thread.join(3)
        over.set()
        assert not thread.is_alive()
        assert ended

"""An association that we ask for, with acceptors that say what they like."""

from __future__ import annotations

import io
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.transcoding import EXPLICIT, IMPLICIT
from services.dimse import commands, pdu
from services.dimse.errors import (
    Aborted,
    AssociationError,
    NoAnswer,
    NotReached,
    Rejected,
    SourceError,
    Violated,
)
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association, StoreRequest
from tests.builders.acceptor import Caller, acceptor
from tests.builders.network import free_port
from tests.builders.peers import wait_until

CT = "1.2.840.10008.5.1.4.1.1.2"
CONTEXTS = (
    ProposedContext(1, CT, (EXPLICIT,)),
    ProposedContext(3, CT, (IMPLICIT,)),
    ProposedContext(5, VERIFICATION, (IMPLICIT,)),
)
DATA = bytes(range(256)) * 20


def asked(port: int, **changes: float) -> Association:
    given = {"connect_timeout_s": 5.0, "answer_timeout_s": 30.0, **changes}
    return Association(Call("127.0.0.1", port, "PACS", "AXIAL", **given), CONTEXTS)  # pyright: ignore[reportArgumentType]


def request(data: bytes = DATA, context_id: int = 1) -> StoreRequest:
    return StoreRequest(context_id, CT, "1.2.3.4", io.BytesIO(data), len(data))


def _pdu_of(kind: int, body: bytes) -> bytes:
    return pdu.pdu(kind, body)


def test_what_is_stored_arrives_as_it_was_in_fragments_that_the_acceptor_takes() -> None:
    for limit in (0, 64, 4096, 16384, 1 << 20, 1 << 31):
        longest_data = 3 << 20 if limit != 64 else 20_000
        for length in (2, 50, 4090, 16378, longest_data):
            taken: list[bytes] = []
            longest: list[int] = []

            def script(
                caller: Caller,
                limit: int = limit,
                taken: list[bytes] = taken,
                longest: list[int] = longest,
            ) -> None:
                caller.accept(limit)
                taken += caller.store_all()
                longest.append(caller.longest)

            data = (DATA * (length // len(DATA) + 1))[:length]
            with acceptor(script) as port, asked(port) as association:
                assert association.store(request(data)).status == 0x0000
                assert association.store(request(data)).status == 0x0000
            assert taken == [data, data], (limit, length)
            assert not limit or longest[0] <= limit


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0xA700, 0xA900, 0xC123, 0x0122])
def test_every_status_and_comment_is_told(status: int) -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.take()
        caller.answer(command, context_id, status, "said so")
        caller.store_all()

    with acceptor(script) as port, asked(port) as association:
        response = association.store(request())
        assert (response.status, response.comment) == (status, "said so")
        assert association.store(request()).status == 0x0000


def test_the_context_that_holds_the_data_set_is_used() -> None:
    seen: list[int] = []

    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.take()
        seen.append(context_id)
        caller.answer(command, context_id, 0)
        caller.store_all()

    with acceptor(script) as port, asked(port) as association:
        assert association.accepted(CT, IMPLICIT) == 3
        assert association.accepted(CT, "1.2.840.10008.1.2.4.90") is None
        association.store(request(context_id=3))
    assert seen == [3]


def test_a_syntax_that_was_not_proposed_is_not_accepted() -> None:
    def script(caller: Caller) -> None:
        caller.accept(syntax="1.2.840.10008.1.2.4.90")
        caller.store_all()

    with acceptor(script) as port, asked(port) as association:
        assert association.accepted(CT, EXPLICIT) is None


def test_echo_is_answered() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.store_all(0x0000)

    with acceptor(script) as port, asked(port) as association:
        assert association.echo() == 0x0000


@pytest.mark.parametrize(
    ("code", "words", "retryable"),
    [
        ((1, 1, 3), "rejected the association permanently: calling AE title not recog", False),
        ((1, 1, 7), "rejected the association permanently: called AE title not recog", False),
        ((2, 3, 2), "rejected the association for now: local limit exceeded", True),
        ((2, 3, 1), "rejected the association for now: temporary congestion", True),
        ((1, 2, 2), "permanently: protocol version not supported", False),
        ((1, 9, 9), "reason 9 of source 9, which PS3.8 does not know", False),
    ],
)
def test_a_rejection_is_told_in_words(
    code: tuple[int, int, int], words: str, retryable: bool
) -> None:
    def script(caller: Caller) -> None:
        caller.read()
        caller.send(pdu.associate_reject(*code))
        caller.read()

    with acceptor(script) as port, pytest.raises(Rejected, match=words) as told, asked(port):
        pass
    assert (told.value.code, told.value.retryable) == (code, retryable)


def test_nobody_there_is_told() -> None:
    with pytest.raises(NotReached, match="cannot be reached"), asked(free_port()):
        pass


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (pdu.abort(0, source=0), Aborted, "aborted the association$"),
        (pdu.abort(6), Aborted, "service provider: invalid PDU parameter value"),
        (pdu.release_request(), Aborted, "released the association before it had answered"),
        (pdu.pdu(0x42, b""), Violated, "type 42H"),
        (pdu.pdu(pdu.P_DATA_TF, b"\0\0\0\1\1\3"), Violated, "contradicts its length"),
        (pdu.p_data(1, b"\0\0\0\1\0\0\0\1"), Violated, "broke the protocol"),
        (b"", Aborted, "closed the connection"),
    ],
    ids=["aborts", "provider", "releases", "unknown", "malformed", "no command", "closes"],
)
def test_what_ends_an_association_is_told_in_words(
    said: bytes, kind: type[AssociationError], words: str
) -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.take()
        caller.send(said)

    with acceptor(script) as port, asked(port) as association:
        with pytest.raises(kind, match=words):
            association.store(request())
        assert not association.is_open
        with pytest.raises(Aborted, match="no association with us any more"):
            association.store(request())


def test_an_answer_to_another_request_proves_nothing() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.take()
        other = commands.Command(
            command.field, command.message_id + 1, True, CT, command.sop_instance_uid, ""
        )
        caller.answer(other, context_id, 0x0000)
        assert caller.read()[0] == pdu.A_ABORT

    with (
        acceptor(script) as port,
        asked(port) as association,
        pytest.raises(Violated, match="another request"),
    ):
        association.store(request())


def test_no_answer_in_time_is_told_and_aborted() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.take()
        assert caller.read()[0] == pdu.A_ABORT

    with acceptor(script) as port, asked(port, answer_timeout_s=0.3) as association:
        begun = time.monotonic()
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.3 s"):
            association.store(request())
        assert time.monotonic() - begun < 2


def test_an_answer_that_comes_in_drops_has_a_deadline() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.take()
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


def test_who_takes_nothing_any_more_is_given_up() -> None:
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


def test_who_takes_slowly_is_not_given_up() -> None:
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


def test_an_abort_in_the_middle_of_a_data_set_is_told_with_its_reason() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.read()
        caller.send(pdu.abort(1))
        caller.connection.close()

    with (
        acceptor(script) as port,
        asked(port) as association,
        pytest.raises(Aborted, match="unrecognised PDU"),
    ):
        association.store(request(bytes(64 << 20)))


def test_a_source_that_ends_early_aborts_what_was_begun() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        while caller.read()[0] == pdu.P_DATA_TF:
            pass

    short = StoreRequest(1, CT, "1.2.3.4", io.BytesIO(bytes(3 << 20)), 4 << 20)
    with acceptor(script) as port, asked(port) as association:
        with pytest.raises(SourceError, match="shorter"):
            association.store(short)
        assert not association.is_open


def test_a_source_that_ends_before_anything_was_sent_costs_no_association() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        assert len(caller.store_all()) == 1

    short = StoreRequest(1, CT, "1.2.3.4", io.BytesIO(bytes(100)), 200)
    with acceptor(script) as port, asked(port) as association:
        with pytest.raises(SourceError, match="shorter"):
            association.store(short)
        assert association.store(request()).status == 0x0000


def test_both_releasing_at_once_is_no_error() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        assert caller.read()[0] == pdu.A_RELEASE_RQ
        caller.send(pdu.release_request())
        assert caller.read()[0] == pdu.A_RELEASE_RP
        caller.send(pdu.release_response())
        assert caller.read() == (0, b"")

    with acceptor(script) as port, asked(port):
        pass


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


def test_many_instances_in_one_association_count_their_messages_on() -> None:
    seen: list[int] = []

    def script(caller: Caller) -> None:
        caller.accept()
        for _ in range(3):
            command, context_id, _ = caller.take()
            seen.append(command.message_id)
            caller.answer(command, context_id, 0)
        caller.store_all()

    with acceptor(script) as port, asked(port) as association:
        for _ in range(3):
            association.store(request())
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("accepted", [False, True], ids=["as the answer", "in the association"])
@given(said=st.binary(max_size=80) | st.builds(_pdu_of, st.integers(0, 9), st.binary(max_size=60)))
def test_whatever_an_acceptor_says_is_an_error_of_ours(accepted: bool, said: bytes) -> None:
    def script(caller: Caller) -> None:
        if accepted:
            caller.accept()
            caller.take()
        else:
            caller.read()
        caller.send(said)

    with (
        acceptor(script) as port,
        pytest.raises(AssociationError),
        asked(port, connect_timeout_s=2.0, answer_timeout_s=2.0) as association,
    ):
        association.store(request())


def test_a_file_is_streamed_with_little_memory(tmp_path: Path) -> None:
    """128 MiB of a file pass through a buffer of one."""
    file = tmp_path / "large"
    with file.open("wb") as out:
        out.truncate(128 << 20)
    received = 0

    def script(caller: Caller) -> None:
        nonlocal received
        caller.accept(128 << 10)
        command, context_id = None, 0
        while received < 128 << 20:
            _, body = caller.read()
            for number, control, fragment in pdu.data_values(memoryview(body)):
                if control & 1:
                    command, context_id = commands.parse_command(bytes(fragment)), number
                else:
                    received += len(fragment)
        assert command is not None
        caller.answer(command, context_id, 0)
        caller.read()

    with acceptor(script) as port, asked(port) as association, file.open("rb", 0) as data:
        tracemalloc.start()
        try:
            association.store(StoreRequest(1, CT, "1.2.3.4", data, 128 << 20))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert received == 128 << 20
    assert peak < 8 << 20

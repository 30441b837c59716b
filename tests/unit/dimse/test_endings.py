"""An association that ends before its time says why, whatever the acceptor said."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dimse import commands, pdu
from services.dimse.errors import (
    Aborted,
    AssociationError,
    NotReached,
    Rejected,
    SourceError,
    Violated,
)
from services.dimse.requestor import StoreRequest
from tests.builders.acceptor import Caller, acceptor
from tests.builders.asking import CT, asked, request
from tests.builders.network import free_port


def _pdu_of(kind: int, body: bytes) -> bytes:
    return pdu.pdu(kind, body)


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
        caller.read_request()
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
        command, context_id, _ = caller.read_request()
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


@pytest.mark.parametrize("accepted", [False, True], ids=["as the answer", "in the association"])
@given(said=st.binary(max_size=80) | st.builds(_pdu_of, st.integers(0, 9), st.binary(max_size=60)))
def test_whatever_an_acceptor_says_is_an_error_of_ours(accepted: bool, said: bytes) -> None:
    def script(caller: Caller) -> None:
        if accepted:
            caller.accept()
            caller.read_request()
        else:
            caller.read()
        caller.send(said)

    with (
        acceptor(script) as port,
        pytest.raises(AssociationError),
        asked(port, connect_timeout_s=2.0, answer_timeout_s=2.0) as association,
    ):
        association.store(request())

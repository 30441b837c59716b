"""What is no DICOM gets the standard's A-ABORT, and leaves nothing behind."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.common.store import StudyStore
from services.dimse import pdu
from services.dimse.commands import C_ECHO_RQ, C_STORE_RQ
from tests.builders.raw_sender import RawSender, left_in_spool, wait_until_free
from tests.builders.senders import kept
from tests.fuzz.dicom_door import CT, SYNTAXES
from tests.fuzz.make_corpus import command, data_set, request, store, values
from tests.integration.listener.conftest import OpenListener

_IMPLICIT = SYNTAXES[0]
_STORE = command(C_STORE_RQ, sop_class=CT, instance="1.2.3.4")
_SENT = data_set(_IMPLICIT)
_HALF = values(1, 3, _STORE) + values(1, 0, _SENT[:100])
_ECHO = command(C_ECHO_RQ)
# The service provider aborts (PS3.8 table 9-26).
_PROVIDER = 2

_IN_AN_ASSOCIATION = {
    "P-DATA-TF longer than negotiated": (values(1, 3, bytes(131072)), pdu.INVALID_PARAMETER),
    "PDU without end": (struct.pack(">BxI", pdu.P_DATA_TF, 0xFFFFFFFF), pdu.INVALID_PARAMETER),
    "unknown PDU type": (pdu.pdu(0x0A, b"????"), pdu.UNRECOGNISED_PDU),
    "A-ASSOCIATE-AC": (pdu.pdu(pdu.A_ASSOCIATE_AC, bytes(68)), pdu.UNEXPECTED_PDU),
    "second request": (request(), pdu.UNEXPECTED_PDU),
    "data before a command": (values(1, 2, b"data"), pdu.UNEXPECTED_PDU),
    "data after an echo": (
        values(11, 3, _ECHO.replace(struct.pack("<HHIH", 0, 0x0800, 2, 0x0101), b""))
        + values(11, 2, b"data"),
        pdu.INVALID_PARAMETER,
    ),
    "command in a data set": (_HALF + values(1, 3, _STORE), pdu.UNEXPECTED_PDU),
    "data set in another context": (_HALF + values(3, 2, _SENT[100:]), pdu.UNEXPECTED_PDU),
    "value of no context": (values(99, 3, _STORE), pdu.INVALID_PARAMETER),
    "value longer than its PDU": (
        _HALF + pdu.pdu(pdu.P_DATA_TF, struct.pack(">IBB", 500, 1, 0) + b"short"),
        pdu.INVALID_PARAMETER,
    ),
    "value shorter than its head": (
        _HALF + pdu.pdu(pdu.P_DATA_TF, struct.pack(">IBB", 1, 1, 0)),
        pdu.INVALID_PARAMETER,
    ),
    "half a value's head": (_HALF + pdu.pdu(pdu.P_DATA_TF, b"\0\0\0"), pdu.INVALID_PARAMETER),
    "command that is none": (values(1, 3, b"no command set"), pdu.INVALID_PARAMETER),
    "command without end": (
        b"".join(values(1, 1, bytes(16000)) for _ in range(5)),
        pdu.INVALID_PARAMETER,
    ),
}
_BEFORE_ONE = {
    "data": (values(1, 3, _STORE), pdu.UNEXPECTED_PDU),
    "release": (pdu.pdu(pdu.A_RELEASE_RQ, bytes(4)), pdu.UNEXPECTED_PDU),
    "unknown PDU type": (pdu.pdu(0x47, b"ET /"), pdu.UNRECOGNISED_PDU),
    "request cut short": (pdu.pdu(pdu.A_ASSOCIATE_RQ, bytes(20)), pdu.INVALID_PARAMETER),
    "request without contexts": (
        pdu.pdu(pdu.A_ASSOCIATE_RQ, request()[6:74]),
        pdu.INVALID_PARAMETER,
    ),
}


@pytest.mark.parametrize("case", _IN_AN_ASSOCIATION)
def test_in_an_association_it_is_aborted(
    case: str,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
) -> None:
    sent, reason = _IN_AN_ASSOCIATION[case]
    # ARTIM is never reached: the door closes because we do, and has given the instance up before.
    with open_front_door(request_timeout_s=600) as listener:
        with RawSender(listener.port).associate() as sender:
            sender.send(sent)
            assert sender.answer() == (pdu.A_ABORT, bytes((0, 0, _PROVIDER, reason)))
            assert left_in_spool(tmp_path / "spool") == []
            sender.socket.shutdown(1)
            assert sender.is_closed()
        _sends_an_instance(listener.port)
    assert set(kept(lite_engine, store)) == {"1.2.3.4"}


@pytest.mark.parametrize("case", _BEFORE_ONE)
def test_before_an_association_it_is_aborted(case: str, open_front_door: OpenListener) -> None:
    sent, reason = _BEFORE_ONE[case]
    with open_front_door(request_timeout_s=600) as listener:
        with RawSender(listener.port) as sender:
            sender.send(sent)
            assert sender.answer() == (pdu.A_ABORT, bytes((0, 0, _PROVIDER, reason)))
            sender.socket.shutdown(1)
            assert sender.is_closed()
        _sends_an_instance(listener.port)


def test_who_is_aborted_and_does_not_close_is_closed_by_artim(
    open_front_door: OpenListener,
) -> None:
    with open_front_door(request_timeout_s=1.5) as listener, RawSender(listener.port) as sender:
        sender.send(b"GET / HTTP/1.1\r\n\r\n")
        assert sender.answer()[0] == pdu.A_ABORT
        assert sender.is_closed()


@pytest.mark.parametrize(
    "sent",
    [b"", request()[:3], request()[:-1], bytes((1, 0, 0, 0, 0xFF, 0xFF))],
    ids=["nothing", "half a head", "all but a byte", "longer than it is"],
)
def test_artim_closes_a_connection_without_a_request(
    sent: bytes, open_front_door: OpenListener
) -> None:
    # Without a word: nobody there speaks DICOM (PS3.8 table 9-10, AA-2).
    with open_front_door(request_timeout_s=0.3) as listener, RawSender(listener.port) as sender:
        sender.send(sent)
        assert sender.is_closed()


def test_artim_is_not_put_off_by_a_byte_now_and_then(open_front_door: OpenListener) -> None:
    asked = request()
    with open_front_door(request_timeout_s=0.5) as listener, RawSender(listener.port) as sender:
        sender.socket.settimeout(0.02)
        for at in range(len(asked) - 1):  # a byte whenever nothing was heard for a moment
            try:
                sender.send(asked[at : at + 1])
                closed = sender.is_closed()
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                closed = True
            assert closed
            break
        else:
            pytest.fail("The connection was never closed.")


@pytest.mark.parametrize("abort", [True, False], ids=["abort", "reset"])
def test_an_association_that_breaks_in_a_data_set_leaves_nothing(
    abort: bool,
    open_front_door: OpenListener,
    lite_engine: Engine,
    store: StudyStore,
    tmp_path: Path,
) -> None:
    with open_front_door() as listener:
        sender = RawSender(listener.port).associate()
        # An instance before it, so that what comes after it has been read when we look.
        sender.send(_as_another(_WHOLE) + _HALF)
        assert sender.status() == 0x0000
        if abort:
            sender.send(pdu.abort(0, source=0))
            assert sender.is_closed()
            sender.socket.close()
        else:
            sender.break_off()
        wait_until_free(listener.port)
        _sends_an_instance(listener.port)
    assert set(kept(lite_engine, store)) == {"1.2.3.4", "1.2.3.5"}
    assert left_in_spool(tmp_path / "spool") == []


def test_released_while_an_instance_is_under_way_the_instance_is_given_up(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    with open_front_door() as listener:
        with RawSender(listener.port).associate() as sender:
            sender.send(_HALF)
            sender.release()
        wait_until_free(listener.port)
        assert left_in_spool(tmp_path / "spool") == []
        _sends_an_instance(listener.port)
    assert set(kept(lite_engine, store)) == {"1.2.3.4"}


def test_who_releases_before_the_answers_hears_them_first(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore
) -> None:
    with open_front_door() as listener, RawSender(listener.port).associate() as sender:
        sender.send(_as_another(_WHOLE) + _WHOLE + pdu.pdu(pdu.A_RELEASE_RQ, bytes(4)))
        assert (sender.status(), sender.status()) == (0x0000, 0x0000)
        assert sender.answer() == (pdu.A_RELEASE_RP, bytes(4))
    assert set(kept(lite_engine, store)) == {"1.2.3.4", "1.2.3.5"}


_WHOLE = store(1, _IMPLICIT)


def _as_another(sent: bytes) -> bytes:
    return sent.replace(b"1.2.3.4\0", b"1.2.3.5\0")


def _sends_an_instance(port: int) -> None:
    with RawSender(port).associate() as sender:
        sender.send(_WHOLE)
        assert sender.status() == 0x0000
        sender.release()

"""What one sender may take of the door, and what it cannot take from the others."""

from __future__ import annotations

import itertools
import operator
from pathlib import Path

import psutil
import pydicom
import pytest
from sqlalchemy import Engine

from services.common.settings import Peer
from services.common.store import StudyStore
from services.dimse import pdu
from services.dimse.commands import C_ECHO_RQ, C_STORE_RQ
from services.listener.door.receiver import MOST_PENDING
from services.listener.service import Listener
from tests.builders.front_door import associate
from tests.builders.peers import wait_until
from tests.builders.raw_sender import (
    RawSender,
    descriptors,
    left_in_spool,
    raw_senders,
    receiver_processes,
    serving,
    wait_until_free,
)
from tests.builders.senders import assert_kept_as_sent, kept
from tests.builders.series import sound_series
from tests.fuzz.dicom_door import CT, SYNTAXES
from tests.fuzz.make_corpus import command, data_set, values
from tests.fuzz.make_corpus import store as store_request
from tests.integration.listener.conftest import OpenListener

_SENT = data_set(SYNTAXES[0])
_BEGUN = values(1, 3, command(C_STORE_RQ, sop_class=CT, instance="1.2.3.4"))
_NO_ROOM = (pdu.A_ASSOCIATE_RJ, bytes((0, 2, 3, 2)))  # transient, local limit (PS3.8 table 9-21)


def _send_all(listener: Listener, files: list[Path]) -> None:
    with associate(listener) as association:
        association.store_all(files)


def test_who_sends_a_byte_now_and_then_occupies_one_place_and_delays_nobody(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    drops = iter(_BEGUN + values(1, 2, _SENT))
    with (
        open_front_door(max_associations=2) as listener,
        RawSender(listener.port).associate() as slow,
    ):
        with associate(listener) as association:
            for file in files:
                slow.send(bytes((next(drops),)))
                assert association.store(file) == 0x0000
            with RawSender(listener.port) as third:
                assert third.ask() == _NO_ROOM
        # It is served to its end like anybody else.
        slow.send(bytes(drops))
        assert slow.status() == 0x0000
        slow.release()
    found = kept(lite_engine, store)
    assert found.pop("1.2.3.4").data == _SENT
    assert_kept_as_sent(files, found)


def test_more_silent_connections_than_are_held_keep_nobody_out(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with (
        open_front_door(request_timeout_s=600) as listener,
        raw_senders(listener.port, MOST_PENDING + 20) as silent,
    ):
        assert all(sender.is_closed() for sender in silent[:20])
        _send_all(listener, files)
        assert silent[-1].ask()[0] == pdu.A_ASSOCIATE_AC


def test_more_rejected_connections_than_are_held_do_not_linger(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with (
        open_front_door(request_timeout_s=600) as listener,
        raw_senders(listener.port, 0) as lingering,
    ):
        for _ in range(MOST_PENDING + 20):
            lingering.append(RawSender(listener.port))
            assert lingering[-1].ask(called="ELSEWHERE")[0] == pdu.A_ASSOCIATE_RJ
        assert all(sender.is_closed() for sender in lingering[:20])
        _send_all(listener, files)


def test_a_place_is_free_before_the_release_is_answered(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    # A sender with one association at a time asks for the next before we see its connection end.
    with (
        open_front_door(max_associations=1, request_timeout_s=600) as listener,
        raw_senders(listener.port, 0) as lingering,
    ):
        for _ in range(MOST_PENDING + 20):
            lingering.append(RawSender(listener.port).associate())
            lingering[-1].release()
        assert all(sender.is_closed() for sender in lingering[:20])


def test_who_does_not_read_the_answers_loses_the_place(open_front_door: OpenListener) -> None:
    with open_front_door(idle_timeout_s=0.5, max_associations=1) as listener:
        with (
            RawSender(listener.port).associate() as deaf,
            pytest.raises((BrokenPipeError, ConnectionResetError)),
        ):
            _ask_without_end(deaf)
        wait_until_free(listener.port)
        _echoes(listener.port)


def test_a_receiver_without_descriptors_lets_senders_in_again(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    files = sound_series(tmp_path / "dicom")
    with open_front_door(request_timeout_s=600) as listener:
        _stores(listener.port)
        (receiver,) = receiver_processes()
        most = receiver.num_fds() + 10
        receiver.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        with raw_senders(listener.port, 30) as silent:
            assert silent[0].is_closed()
            _send_all(listener, files[:1])


def test_an_instance_that_is_too_large_is_refused_and_the_next_is_accepted(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore, tmp_path: Path
) -> None:
    large, small, *_ = sound_series(tmp_path / "dicom")
    data = pydicom.dcmread(large)
    data.Rows, data.Columns, data.PixelData = 1024, 1024, bytes(2 << 20)
    data.save_as(large)
    with (
        open_front_door(max_instance_bytes=1 << 20) as listener,
        associate(listener) as association,
    ):
        assert association.store(large) == 0xA700
        assert left_in_spool(tmp_path / "spool") == []
        assert association.store(small) == 0x0000
        assert association.store(large) == 0xA700
    assert_kept_as_sent([small], kept(lite_engine, store))


def test_the_largest_instance_that_is_allowed_is_accepted_and_a_byte_more_is_not(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore
) -> None:
    limit = 1 << 20
    filler = limit - len(_SENT) - 8
    # Data Set Trailing Padding, (FFFC,FFFC), comes after everything else.
    exact = _SENT + b"\xfc\xff\xfc\xff" + filler.to_bytes(4, "little") + bytes(filler)
    with (
        open_front_door(max_instance_bytes=limit) as listener,
        RawSender(listener.port).associate() as sender,
    ):
        for sent, status in ((exact + b"\0", 0xA700), (exact, 0x0000)):
            sender.send(_BEGUN)
            for at in range(0, len(sent), 16000):
                part = sent[at : at + 16000]
                sender.send(values(1, 2 if at + 16000 >= len(sent) else 0, part))
            assert sender.status() == status
        sender.release()
    assert kept(lite_engine, store)["1.2.3.4"].data == exact


def test_fragments_of_any_size_make_the_same_instance(
    open_front_door: OpenListener, lite_engine: Engine, store: StudyStore
) -> None:
    asked = command(C_STORE_RQ, sop_class=CT, instance="1.2.3.4")
    pieces = [asked[:1], b"", asked[1:50], asked[50:]]
    parts = [_SENT[:1], b"", *(_SENT[at : at + 7] for at in range(1, len(_SENT), 7)), b""]
    commands = b"".join(
        values(1, 3 if number == len(pieces) - 1 else 1, piece)[pdu.PDU_HEAD.size :]
        for number, piece in enumerate(pieces)
    )
    data = b"".join(
        values(1, 2 if number == len(parts) - 1 else 0, part)[pdu.PDU_HEAD.size :]
        for number, part in enumerate(parts)
    )
    with open_front_door() as listener, RawSender(listener.port).associate() as sender:
        # Command and data set in one PDU, and that cut where no boundary is.
        whole = pdu.pdu(pdu.P_DATA_TF, commands + data)
        for at in range(0, len(whole), 11):
            sender.send(whole[at : at + 11])
        assert sender.status() == 0x0000
        sender.release()
    assert kept(lite_engine, store)["1.2.3.4"].data == _SENT


@pytest.mark.parametrize("of_peer", [False, True], ids=["in all", "of a peer"])
def test_two_receivers_share_one_limit(of_peer: bool, open_front_door: OpenListener) -> None:
    most = 4
    peers = (
        Peer(name="fuzzers", ae_title="FUZZER", max_associations=most if of_peer else None),
        Peer(name="good", ae_title="GOOD"),
    )
    limit = 64 if of_peer else most
    with (
        open_front_door(
            receivers=2, max_associations=limit, peers=peers, accept_unknown_peers=False
        ) as listener,
        raw_senders(listener.port, 0) as served,
    ):
        # The kernel chooses the receiver: asked until each of them serves half.
        for by_receiver in itertools.repeat(dict[int, int]()):
            if len(served) == most:
                break
            sender = RawSender(listener.port).associate()
            receiver = serving(sender)
            if by_receiver.get(receiver, 0) < most // 2:
                by_receiver[receiver] = by_receiver.get(receiver, 0) + 1
                served.append(sender)
            else:
                sender.release()
                sender.socket.close()
                wait_until_free(listener.port, len(served))
        for _ in range(8):  # whichever receiver it comes to
            with RawSender(listener.port) as refused:
                assert refused.ask() == _NO_ROOM
        if of_peer:
            with associate(listener, calling="GOOD") as association:
                assert association.echo() == 0x0000
        served[0].release()
        served[0].socket.close()
        wait_until_free(listener.port, most - 1)
        served[0] = RawSender(listener.port).associate()


def test_a_sender_that_falls_silent_in_a_data_set_is_aborted_and_leaves_nothing(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    with (
        open_front_door(idle_timeout_s=0.4) as listener,
        RawSender(listener.port).associate() as sender,
    ):
        sender.send(_BEGUN + values(1, 0, _SENT[:100]))
        assert sender.answer() == (pdu.A_ABORT, bytes((0, 0, 2, 0)))
        assert left_in_spool(tmp_path / "spool") == []


def test_hundreds_of_associations_leave_no_descriptor_no_thread_and_no_buffer(
    open_front_door: OpenListener, tmp_path: Path
) -> None:
    with open_front_door() as listener:
        (receiver,) = receiver_processes()
        endings = itertools.cycle(_ENDINGS)
        for _ in range(len(_ENDINGS)):
            next(endings)(listener.port)
        wait_until_free(listener.port)
        spool = tmp_path / "spool"
        before = _held(receiver, spool)
        for _ in range(200):
            next(endings)(listener.port)
        wait_until_free(listener.port)
        wait_until(
            lambda: all(map(operator.le, _held(receiver, spool), before)),
            20,
            f"hold {before} again",
        )
        # Files made in advance: two batches at most.
        assert descriptors(receiver, spool)[0] <= 2 * 64
        wait_until(lambda: left_in_spool(spool) == [], 20, "all is in the store")
        assert receiver_processes() == [receiver]


def _held(receiver: psutil.Process, spool: Path) -> tuple[int, int, int]:
    """Descriptors, threads and connections' buffers."""
    buffers = Path(f"/proc/{receiver.pid}/maps").read_text().count("/dev/zero")
    return descriptors(receiver, spool)[1], receiver.num_threads(), buffers


def _ask_without_end(sender: RawSender) -> None:
    echoes = values(11, 3, command(C_ECHO_RQ)) * 1000
    while True:
        sender.send(echoes)  # waits when the door, whose answers nobody reads, reads no more


def _stores(port: int) -> None:
    with RawSender(port).associate() as sender:
        sender.send(store_request(1, SYNTAXES[0]))
        assert sender.status() == 0x0000
        sender.release()


def _echoes(port: int) -> None:
    with RawSender(port).associate() as sender:
        sender.send(values(11, 3, command(C_ECHO_RQ)))
        assert sender.status() == 0x0000
        sender.release()


def _breaks_off(port: int) -> None:
    sender = RawSender(port).associate()
    sender.send(_BEGUN + values(1, 0, _SENT[:100]))
    sender.break_off()


def _aborts(port: int) -> None:
    with RawSender(port).associate() as sender:
        sender.send(_BEGUN + values(1, 0, _SENT[:100]) + pdu.abort(0, source=0))


def _is_rejected(port: int) -> None:
    with RawSender(port) as sender:
        assert sender.ask(called="ELSEWHERE")[0] == pdu.A_ASSOCIATE_RJ


def _is_malformed(port: int) -> None:
    with RawSender(port).associate() as sender:
        sender.send(_BEGUN + _BEGUN)
        assert sender.answer()[0] == pdu.A_ABORT


_ENDINGS = (_stores, _echoes, _breaks_off, _aborts, _is_rejected, _is_malformed)

"""An association that we ask for: what is sent arrives as it was, and every answer is told."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from services.common.transcoding import EXPLICIT, IMPLICIT
from services.dimse import commands, pdu
from services.dimse.requestor import StoreRequest
from tests.builders.acceptor import Caller, acceptor
from tests.builders.asking import CT, DATA, asked, request


def test_what_is_stored_arrives_as_it_was_in_fragments_that_the_acceptor_allows() -> None:
    for limit in (0, 64, 4096, 16384, 1 << 20, 1 << 31):
        longest_data = 3 << 20 if limit != 64 else 20_000
        for length in (2, 50, 4090, 16378, longest_data):
            received: list[bytes] = []
            longest: list[int] = []

            def script(
                caller: Caller,
                limit: int = limit,
                received: list[bytes] = received,
                longest: list[int] = longest,
            ) -> None:
                caller.accept(limit)
                received += caller.store_all()
                longest.append(caller.longest)

            data = (DATA * (length // len(DATA) + 1))[:length]
            with acceptor(script) as port, asked(port) as association:
                assert association.store(request(data)).status == 0x0000
                assert association.store(request(data)).status == 0x0000
            assert received == [data, data], (limit, length)
            assert not limit or longest[0] <= limit


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB006, 0xB007, 0xA700, 0xA900, 0xC123, 0x0122])
def test_every_status_and_comment_is_told(status: int) -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        command, context_id, _ = caller.read_request()
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
        command, context_id, _ = caller.read_request()
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


def test_many_instances_in_one_association_count_their_messages_on() -> None:
    seen: list[int] = []

    def script(caller: Caller) -> None:
        caller.accept()
        for _ in range(3):
            command, context_id, _ = caller.read_request()
            seen.append(command.message_id)
            caller.answer(command, context_id, 0)
        caller.store_all()

    with acceptor(script) as port, asked(port) as association:
        for _ in range(3):
            association.store(request())
    assert seen == [1, 2, 3]


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

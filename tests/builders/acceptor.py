"""An acceptor of bytes: what no library would answer, or no further than wanted."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from services.dimse import commands, pdu
from services.dimse.pdu import AnsweredContext, parse_associate_request

_WITHIN_S = 20.0


class Caller:
    """A connection that came in, seen from the acceptor's side."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.longest = 0

    def read(self) -> tuple[int, bytes]:
        """The next PDU: its type and its body; ``(0, b"")`` when there is none any more."""
        head = self._read(pdu.PDU_HEAD.size)
        if len(head) < pdu.PDU_HEAD.size:
            return 0, b""
        kind, length = pdu.PDU_HEAD.unpack(head)
        if kind == pdu.P_DATA_TF:
            self.longest = max(self.longest, length)
        return kind, self._read(length)

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.connection.sendall(data)

    def accept(self, max_pdu_bytes: int = 16384, syntax: str | None = None) -> None:
        """Reads the request and accepts every context, in a syntax of its own if one is given."""
        kind, body = self.read()
        assert kind == pdu.A_ASSOCIATE_RQ
        answers = [
            AnsweredContext(context.context_id, 0, syntax or context.transfer_syntaxes[0])
            for context in parse_associate_request(body).contexts
        ]
        self.send(
            pdu.associate_accept(
                body,
                answers,
                max_pdu_bytes=max_pdu_bytes,
                implementation_class_uid="1.2.3",
                implementation_version="SCRIPT",
                roles={},
            )
        )

    def read_request(self) -> tuple[commands.Command, int, bytes]:
        """Reads a request whole: its command, its context's id, and its data set."""
        command, data = b"", bytearray()
        parsed: commands.Command | None = None
        while True:
            kind, body = self.read()
            assert kind == pdu.P_DATA_TF, f"{kind:02X}H"
            for context_id, control, fragment in pdu.data_values(memoryview(body)):
                assert len(fragment) % 2 == 0, "fragments have an even length"
                if control & 1:
                    command += fragment
                    parsed = commands.parse_command(command) if control & 2 else None
                else:
                    data += fragment
                if control & 2 and parsed is not None:
                    if control & 1 and parsed.has_data_set:
                        continue
                    return parsed, context_id, bytes(data)

    def answer(
        self, command: commands.Command, context_id: int, status: int, comment: str = ""
    ) -> None:
        """Answers a request."""
        self.send(pdu.p_data(context_id, commands.response(command, status, comment)))

    def store_all(self, status: int = 0x0000) -> list[bytes]:
        """Answers every request until the association is released; their data sets."""
        received: list[bytes] = []
        while True:
            try:
                command, context_id, data = self.read_request()
            except AssertionError:
                self.send(pdu.release_response())
                return received
            received.append(data)
            self.answer(command, context_id, status)

    def reset(self) -> None:
        """Breaks the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                got = self.connection.recv(length - len(data))
            except OSError:
                return data
            if not got:
                return data
            data += got
        return data


Script = Callable[[Caller], object]


@contextmanager
def acceptor(*scripts: Script, receive_buffer: int = 0) -> Generator[int]:
    """Serves one connection by each script, one after the other; yields the port.

    What a script's assertion says fails the test when the context is left.
    """
    server = socket.create_server(("127.0.0.1", 0))
    if receive_buffer:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    problems: list[BaseException] = []
    thread = threading.Thread(target=_serve, args=(server, scripts, problems), daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # what waits for a connection ends
        server.close()
        thread.join(_WITHIN_S)
    if problems:
        raise problems[0]


def _serve(server: socket.socket, scripts: Sequence[Script], problems: list[BaseException]) -> None:
    for script in scripts:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.settimeout(_WITHIN_S)
        with connection:
            try:
                script(Caller(connection))
            except BaseException as error:  # noqa: BLE001  the test is told
                problems.append(error)

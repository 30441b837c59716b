"""What the fuzzers and the corpus test of the DICOM door share: its parsers, and a whole one.

Every function takes any bytes and raises only what nobody planned for.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any

from services.common.header_scan import EXPLICIT_BIG, IMPLICIT_LITTLE, ScanError, scan
from services.common.headers import scheme
from services.dimse import commands, pdu
from services.dimse.pdu import AssociateRequest
from services.dimse.proposal import parse_associate_accept
from services.listener.door.admission import AdmissionRules, PeerRule
from services.listener.door.association import Association
from services.listener.door.config import DoorConfig
from services.listener.door.messages import Told
from services.listener.door.part10 import META_BYTES, TornFileError
from services.listener.door.spool import Spool
from services.listener.door.store import Facilities
from services.listener.door.turns import Turns, WireInTurn
from tests.builders.kept_files import read_meta
from tests.fuzz.spool_in_memory import empty_spool, spool_in_memory

SYNTAXES = (
    IMPLICIT_LITTLE,
    "1.2.840.10008.1.2.1",
    EXPLICIT_BIG,
    "1.2.840.10008.1.2.1.99",
    "1.2.840.10008.1.2.4.90",
)
CT = "1.2.840.10008.5.1.4.1.1.2"
_SCHEME = scheme()
_PDU_KINDS = frozenset((pdu.A_ASSOCIATE_AC, pdu.A_ASSOCIATE_RJ, pdu.P_DATA_TF, pdu.A_RELEASE_RP))
# A peer that hangs for this long has found something.
_DEADLINE_S = 10.0


class DoorFailure(AssertionError):
    """The door did what it must not do."""


def parse_everything(data: bytes) -> None:
    """Every parser that sees a peer's bytes."""
    for parse, planned in (
        (pdu.parse_associate_request, pdu.MalformedPduError),
        (parse_associate_accept, pdu.MalformedPduError),
        (_parse_values, pdu.MalformedPduError),
        (commands.parse_command, commands.MalformedCommandError),
        (commands.parse_response, commands.MalformedCommandError),
    ):
        with suppress(planned):
            parse(data)
    for syntax in SYNTAXES:
        for complete in (False, True):
            with suppress(ScanError):
                scan(data, syntax, _SCHEME, complete=complete)
    with suppress(TornFileError):
        read_meta(data[:META_BYTES].ljust(META_BYTES, b"\0"))


def _parse_values(data: bytes) -> None:
    pdu.data_values(memoryview(data))


@contextmanager
def open_door() -> Generator[Door]:
    """A door with a spool in memory."""
    with spool_in_memory() as spool:
        yield Door(spool)


class Door:
    """Serves associations over a socket pair, as a receiver does over the network."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._told: list[Told] = []
        self.stored: set[str] = set()
        self._facilities = Facilities(spool, _SCHEME, 0, self._told.append)
        self._config = DoorConfig(
            admission=AdmissionRules("AXIAL", accept_unknown_peers=True),
            scheme=_SCHEME,
            contexts={CT: SYNTAXES, "1.2.840.10008.1.1": SYNTAXES[:2]},
            spool=str(spool.folder),
            watermark_bytes=0,
            max_pdu_bytes=16384,
            max_instance_bytes=1 << 20,
            request_timeout_s=_DEADLINE_S / 2,
            idle_timeout_s=_DEADLINE_S / 2,
        )

    def serve(self, sent: bytes) -> bytes:
        """What the door answers to a peer that sends these bytes and closes the connection.

        Raises:
            AssertionError: it hangs, leaves a file of an instance that it did not acknowledge, or
                answers with what is no PDU.
        """
        ours, theirs = socket.socketpair()
        answer = bytearray()
        self._told.clear()

        def play() -> None:
            with theirs:
                reader = threading.Thread(target=read, daemon=True)
                reader.start()
                try:
                    theirs.sendall(sent)
                    theirs.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                reader.join(_DEADLINE_S)

        def read() -> None:
            try:
                while got := theirs.recv(65536):
                    answer.extend(got)
            except OSError:
                pass

        peer = threading.Thread(target=play, daemon=True)
        peer.start()
        wire = _Wire(ours, self._config.max_pdu_bytes)
        with ours:
            Association(wire, self._config, self._facilities, "192.0.2.1", _admit).serve()
        peer.join(_DEADLINE_S)
        if peer.is_alive():
            raise DoorFailure("The connection was not closed.")
        _check_pdus(bytes(answer))
        self.stored = empty_spool(self._spool, self._told)
        return bytes(answer)


class _Wire(WireInTurn):
    """A socket pair of the machine's own has no TCP to set options of."""

    def __init__(self, connection: socket.socket, max_pdu_bytes: int) -> None:
        pretender: Any = _Pretender(connection)
        super().__init__(pretender, max_pdu_bytes, Turns(1))


class _Pretender:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def setsockopt(self, level: int, *rest: object) -> None:
        if level == socket.SOL_SOCKET:
            self._connection.setsockopt(level, *rest)  # pyright: ignore[reportCallIssue, reportArgumentType]

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def _admit(_request: AssociateRequest) -> PeerRule:
    return PeerRule("fuzzer", ("FUZZER",))


def _check_pdus(answer: bytes) -> None:
    at = 0
    while at < len(answer):
        if at + pdu.PDU_HEAD.size > len(answer):
            raise DoorFailure("Half a PDU was sent.")
        kind, length = pdu.PDU_HEAD.unpack_from(answer, at)
        at += pdu.PDU_HEAD.size + length
        if kind == pdu.A_ABORT and at == len(answer):
            return  # nothing may follow it
        if kind not in _PDU_KINDS or at > len(answer):
            raise DoorFailure(f"A PDU of type {kind:02X}H was sent.")

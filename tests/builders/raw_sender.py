"""A sender of bytes at the DICOM door: what no library would send, or no further than wanted."""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from services.dimse import commands, pdu
from tests.builders.peers import wait_until
from tests.builders.stow import data_set_of
from tests.fuzz.dicom_door import CT, SYNTAXES
from tests.fuzz.make_corpus import command, request, values

# Who waits longer for the door has found a bug.
_WITHIN_S = 20.0


class RawSender:
    """A connection to the door; a context manager that closes it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_WITHIN_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> RawSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    @property
    def port(self) -> int:
        """Our end's port."""
        return self.socket.getsockname()[1]

    def ask(self, called: str = "AXIAL", abstract: str = CT) -> tuple[int, bytes]:
        """Requests an association as FUZZER; the answer's type and body."""
        self.send(request(called, abstract))
        return self.answer()

    def associate(self, abstract: str = CT) -> RawSender:
        """Requests an association for a SOP class and gets it."""
        kind, body = self.ask(abstract=abstract)
        assert kind == pdu.A_ASSOCIATE_AC, (kind, body)
        return self

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """The next PDU."""
        kind, length = pdu.PDU_HEAD.unpack(self._read(pdu.PDU_HEAD.size))
        return kind, self._read(length)

    def status(self) -> int:
        """The status of the next response."""
        kind, body = self.answer()
        assert kind == pdu.P_DATA_TF, (kind, body)
        at = body.index(struct.pack("<HHI", 0, 0x0900, 2)) + 8
        return int.from_bytes(body[at : at + 2], "little")

    def store(self, file: Path) -> int:
        """Stores a file in Explicit VR Little Endian; the response's status."""
        data = pydicom.dcmread(file, stop_before_pixels=True)
        uids = {"sop_class": str(data.SOPClassUID), "instance": str(data.SOPInstanceUID)}
        context_id = 2 * SYNTAXES.index(ExplicitVRLittleEndian) + 1
        self.send(values(context_id, 3, command(commands.C_STORE_RQ, **uids)))
        self.send(values(context_id, 2, data_set_of(file.read_bytes())))
        return self.status()

    def is_closed(self) -> bool:
        """Whether the door closes the connection, sending nothing more before."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def release(self) -> None:
        """Releases the association."""
        self.send(pdu.pdu(pdu.A_RELEASE_RQ, bytes(4)))
        assert self.answer() == (pdu.A_RELEASE_RP, bytes(4))

    def break_off(self) -> None:
        """Breaks the connection: the door sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            got = self.socket.recv(length - len(data))
            if not got:
                raise ConnectionError("the door closed the connection")
            data += got
        return data


@contextmanager
def raw_senders(port: int, count: int) -> Generator[list[RawSender]]:
    """Several connections."""
    senders = [RawSender(port) for _ in range(count)]
    try:
        yield senders
    finally:
        for sender in senders:
            sender.socket.close()


def receiver_processes() -> list[psutil.Process]:
    """The receivers of a listener in this process."""
    return [process for process in psutil.Process().children() if _is_receiver(process)]


def _is_receiver(process: psutil.Process) -> bool:
    try:
        return "services.listener.door" in process.cmdline()
    except psutil.NoSuchProcess:  # it has just ended
        return False


def serving(sender: RawSender) -> int:
    """The process id of the receiver that serves a connection."""
    (found,) = [
        process.pid
        for process in receiver_processes()
        for connection in process.net_connections("tcp")
        if connection.raddr and connection.raddr.port == sender.port
    ]
    return found


def descriptors(process: psutil.Process, spool: Path) -> tuple[int, int]:
    """How many descriptors a receiver has open: of files in its spool, and of all else."""
    in_spool, others = 0, 0
    folder = Path(f"/proc/{process.pid}/fd")
    for entry in folder.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed meanwhile
        inside = target.endswith(".dcm") and target.startswith(str(spool))
        in_spool, others = in_spool + inside, others + (not inside)
    return in_spool, others


def left_in_spool(folder: Path) -> list[Path]:
    """Files of a spool that hold something."""
    return [file for file in folder.rglob("*.dcm") if file.is_file() and file.stat().st_size]


def wait_until_free(port: int, served: int = 0) -> None:
    """Waits until the receivers have no more than so many connections at the door's port."""

    def found() -> int:
        return sum(
            connection.laddr.port == port and bool(connection.raddr)
            for process in receiver_processes()
            for connection in process.net_connections("tcp")
        )

    wait_until(lambda: found() <= served, _WITHIN_S, f"{served} connections are left")

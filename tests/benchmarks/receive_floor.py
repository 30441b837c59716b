"""The floor: what is left of receiving when there is no DICOM in it.

``python -m tests.benchmarks.receive_floor serve FOLDER`` prints its port and then takes frames
(a length, the bytes), each written to a file of its own, synced, and answered with one byte.
``send PORT COUNT SIZE`` sends COUNT of them, each after the answer to the one before it.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading

_LENGTH = struct.Struct("<I")
_BUFFER = 1 << 20


def serve(folder: str) -> None:
    """Serves until it is killed."""
    door = socket.create_server(("127.0.0.1", 0), backlog=64)
    sys.stdout.write(f"{door.getsockname()[1]}\n")
    sys.stdout.flush()
    number = 0
    while True:
        connection, _ = door.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        threading.Thread(
            target=_receive, args=(connection, f"{folder}/{os.getpid()}-{number}"), daemon=True
        ).start()


def send(port: int, count: int, size: int) -> None:
    """Sends frames of one size."""
    frame = _LENGTH.pack(size) + os.urandom(size)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(count):
            connection.sendall(frame)
            if connection.recv(1) != b"1":
                raise ConnectionError("The floor did not answer.")


def _receive(connection: socket.socket, name: str) -> None:
    buffer = memoryview(bytearray(_BUFFER))
    number = 0
    while len(head := connection.recv(_LENGTH.size, socket.MSG_WAITALL)) == _LENGTH.size:
        (left,) = _LENGTH.unpack(head)
        number += 1
        file = os.open(f"{name}-{number}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        while left:
            got = connection.recv_into(buffer, min(left, _BUFFER))
            if not got:
                return
            os.write(file, buffer[:got])
            left -= got
        os.fdatasync(file)
        os.close(file)
        connection.sendall(b"1")


if __name__ == "__main__":
    verb, *given = sys.argv[1:]
    if verb == "serve":
        serve(given[0])
    else:
        send(*map(int, given))

"""The power goes while instances arrive: nothing that was acknowledged is missing afterwards.

POWER_CUTS says how often; `make soak` has it cut 200 times.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from services.common.database import InstanceRow, open_database
from services.common.identity import derived_uid
from services.dimse.pdu import A_RELEASE_RQ, PDU_HEAD, pdu
from services.listener.door.part10 import META_BYTES
from tests.builders.listener_process import ListenerProcess
from tests.builders.power_cut import build_shim, cut, watched
from tests.fuzz.dicom_door import CT
from tests.fuzz.make_corpus import C_STORE_RQ, command, data_set, request, values

CUTS = int(os.environ.get("POWER_CUTS", "6"))
EXPLICIT = "1.2.840.10008.1.2.1"
# The second of the request's contexts.
CONTEXT = 3
ASSOCIATIONS = 3

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (gcc)")


class Front(ListenerProcess):
    """A listener whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, listener={"quiet_period_s": 3600, "receivers": 2})
        self.data = folder / "data"
        self._shim = build_shim(folder)
        self.calls = folder / "calls"

    def environment(self) -> dict[str, str]:
        self.calls.write_bytes(b"")
        roots = [self.data / name for name in ("spool", "store", "quarantine")]
        return {**super().environment(), **watched(self._shim, self.calls, *roots)}

    def kept(self) -> dict[str, str]:
        """SHA-256 of the data set of every instance that is registered and in the store."""
        engine = open_database(f"sqlite:///{self.data / 'axial.sqlite'}")
        with engine.connect() as connection:
            rows = connection.execute(
                select(InstanceRow.sop_instance_uid, InstanceRow.store_key).where(
                    InstanceRow.spooled_by.is_(None)
                )
            ).all()
        engine.dispose()
        found: dict[str, str] = {}
        for uid, key in rows:
            file = self.data / "store" / key
            if file.exists():
                found[uid] = hashlib.sha256(file.read_bytes()[META_BYTES:]).hexdigest()
        return found


class Sender(threading.Thread):
    """Sends instances until the connection breaks; remembers those that were acknowledged."""

    def __init__(self, port: int, name: str, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._prefix = name
        self._chance = chance
        self.acknowledged: dict[str, str] = {}

    def run(self) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection:
                connection.sendall(request())
                _answer(connection)
                for number in range(100_000):
                    self._send(connection, number)
                connection.sendall(pdu(A_RELEASE_RQ, bytes(4)))
        except OSError:
            return

    def _send(self, connection: socket.socket, number: int) -> None:
        uid = derived_uid("power cut", self._prefix, number)
        data = _instance(uid, self._chance.randbytes(self._chance.randrange(2, 60_000) & ~1))
        connection.sendall(
            values(CONTEXT, 3, command(C_STORE_RQ, sop_class=CT, instance=uid))
            + b"".join(
                values(CONTEXT, 2 if at + 16_000 >= len(data) else 0, data[at : at + 16_000])
                for at in range(0, len(data), 16_000)
            )
        )
        # (0000,0900) Status
        if b"\x00\x00\x00\x09\x02\x00\x00\x00\x00\x00" in _answer(connection):
            self.acknowledged[uid] = hashlib.sha256(data).hexdigest()


def _instance(uid: str, pixels: bytes) -> bytes:
    sent = data_set(EXPLICIT)
    short = b"\x08\x00\x18\x00UI\x08\x001.2.3.4\x00"
    assert short in sent
    value = uid.encode() + (b"\0" if len(uid) % 2 else b"")
    sent = sent.replace(short, b"\x08\x00\x18\x00UI" + len(value).to_bytes(2, "little") + value)
    start = sent.index(b"\xe0\x7f\x10\x00") + 8
    return sent[:start] + len(pixels).to_bytes(4, "little") + pixels


def _answer(connection: socket.socket) -> bytes:
    head = connection.recv(PDU_HEAD.size, socket.MSG_WAITALL)
    if len(head) < PDU_HEAD.size:
        raise ConnectionError
    _, length = PDU_HEAD.unpack(head)
    return connection.recv(length, socket.MSG_WAITALL)


@needs_compiler
def test_no_acknowledged_instance_is_missing_after_the_power_was_cut(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("POWER_CUT_SEED", "1")))
    front = Front(tmp_path)
    acknowledged: dict[str, str] = {}
    touched = 0
    for number in range(CUTS):
        senders = [
            Sender(front.settings.listener.port, f"{number}-{n}", random.Random(chance.random()))
            for n in range(ASSOCIATIONS)
        ]
        with front.running():  # and killed, with its receivers, when this is left
            for sender in senders:
                sender.start()
            _wait_for_some(senders, chance.randrange(5, 60))
            time.sleep(chance.uniform(0.0, 0.02))  # at any moment of what is under way
        touched += cut(front.calls, chance)
        for sender in senders:
            sender.join(20)
            acknowledged.update(sender.acknowledged)
    with front.running():
        _wait_for_all(front, acknowledged)
    assert touched, "The cuts cost nothing: they prove nothing."
    _quarantined_with_reasons(front.data / "quarantine")


def _wait_for_some(senders: list[Sender], wanted: int) -> None:
    deadline = time.monotonic() + 60
    while sum(len(sender.acknowledged) for sender in senders) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _wait_for_all(front: Front, acknowledged: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while True:
        kept = front.kept()
        missing = [uid for uid, digest in acknowledged.items() if kept.get(uid) != digest]
        if not missing:
            return
        assert time.monotonic() < deadline, f"{len(missing)} of {len(acknowledged)} are missing"
        time.sleep(0.1)


def _quarantined_with_reasons(folder: Path) -> None:
    for file in folder.glob("*.dcm"):
        note = json.loads(file.with_name(f"{file.name}.json").read_text())
        assert note["reason"] == "torn_file", note

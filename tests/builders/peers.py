"""Systems to send to: real ones as processes, and one that misbehaves on command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pynetdicom import AE, evt
from pynetdicom._globals import DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

from services.common.settings import Destination
from services.dimse.errors import AssociationError
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import VERIFICATION, Association
from tests.builders.network import free_port

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
ORTHANC = Path("/usr/sbin/Orthanc")

Answer = int | Callable[[evt.Event], int]


def destination(port: int, name: str = "pacs", **changes: Any) -> Destination:
    """A destination on this machine that is retried at once and given up soon."""
    given: dict[str, Any] = {
        "name": name,
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": port,
        "first_backoff_s": 0.05,
        "longest_backoff_s": 0.2,
        "connect_timeout_s": 2.0,
        "response_timeout_s": 5.0,
    }
    return Destination(**{**given, **changes})


@dataclass
class Peer:
    """What a scripted peer has seen; `stored` holds SOP instance UIDs in the order of arrival."""

    port: int
    stored: list[str] = field(default_factory=list[str])
    asked: list[str] = field(default_factory=list[str])
    contexts: list[tuple[str, list[str]]] = field(default_factory=list[tuple[str, list[str]]])
    associations: int = 0


def _scp(sop_classes: Sequence[str], transfer_syntaxes: Sequence[str]) -> AE:
    entity = AE(ae_title="PACS")
    entity.add_supported_context(Verification)
    for sop_class in sop_classes:
        entity.add_supported_context(sop_class, list(transfer_syntaxes))
    return entity


@contextmanager
def scripted_peer(
    answers: Sequence[Answer] = (),
    sop_classes: Sequence[str] = (SEG, SR),
    transfer_syntaxes: Sequence[str] = DEFAULT_TRANSFER_SYNTAXES,
    require_called_aet: bool = False,
    port: int = 0,
) -> Generator[Peer]:
    """A C-STORE SCP whose answers are given, one for each request; then it always succeeds.

    An answer is a status, or a function of the event that returns one and may do anything else.
    """
    peer = Peer(port or free_port())
    left = list(answers)
    lock = threading.Lock()

    def store(event: evt.Event) -> int:
        uid = str(cast(C_STORE, event.request).AffectedSOPInstanceUID)
        with lock:
            peer.asked.append(uid)
            answer = left.pop(0) if left else 0x0000
        status = answer(event) if callable(answer) else answer
        if status == 0x0000 or status & 0xF000 == 0xB000:
            with lock:
                peer.stored.append(uid)
        return status

    def requested(event: evt.Event) -> None:
        peer.associations += 1
        peer.contexts.extend(
            (str(context.abstract_syntax), [str(uid) for uid in context.transfer_syntax])
            for context in event.assoc.requestor.requested_contexts
        )

    entity = _scp(sop_classes, transfer_syntaxes)
    entity.require_called_aet = require_called_aet
    handlers: list[Any] = [(evt.EVT_C_STORE, store), (evt.EVT_REQUESTED, requested)]
    server = entity.start_server(("127.0.0.1", peer.port), block=False, evt_handlers=handlers)
    assert server is not None
    try:
        yield peer
    finally:
        server.shutdown()


def abort(event: evt.Event) -> int:
    """Aborts in the middle of the association, before answering."""
    event.assoc.abort()
    return 0xC001


def slowly(seconds: float) -> Callable[[evt.Event], int]:
    """Takes its time, then succeeds."""

    def answer(event: evt.Event) -> int:
        time.sleep(seconds)  # what the peer does, not what we wait for
        return 0x0000

    return answer


@contextmanager
def qrscp(folder: Path) -> Generator[tuple[int, Path]]:
    """pynetdicom's qrscp application as a process; yields its port and where its objects lie."""
    port, instances = free_port(), folder / "pacs"
    instances.mkdir(parents=True)
    command = [
        *(sys.executable, "-m", "pynetdicom", "qrscp", "--quiet", "--port", str(port)),
        *("--bind-address", "127.0.0.1", "--instance-location", str(instances)),
        *("--database-location", str(folder / "pacs.sqlite"), "-aet", "PACS"),
    ]
    with _process(command, folder, folder / "qrscp.log"):
        wait_until(lambda: echo(port), 20, "qrscp answers C-ECHO")
        yield port, instances


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    dicom_port: int
    http_port: int

    def answers(self) -> bool:
        """Whether its REST API answers."""
        try:
            return bool(self.get("/system"))
        except urllib.error.URLError:
            return False

    def get(self, path: str) -> Any:
        """Asks its REST API."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def call(self, method: str, path: str, content: object) -> Any:
        """Sends its REST API bytes as they are, anything else as JSON; its answer, if any."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(url, data, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def instances(self) -> list[dict[str, str]]:
        """The main attributes of every instance that it holds."""
        return [self.get(f"/instances/{each}/simplified-tags") for each in self.get("/instances")]

    def file(self, identifier: str) -> bytes:
        """An instance as the file that it keeps."""
        url = f"http://127.0.0.1:{self.http_port}/instances/{identifier}/file"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read()


@contextmanager
def orthanc(folder: Path, *, nodelay: bool = True) -> Generator[Orthanc]:
    """Debian's Orthanc with storage below `folder`; with Nagle's algorithm on unless `nodelay`."""
    running = Orthanc(free_port(), free_port())
    (folder / "orthanc").mkdir(parents=True)
    configuration = {
        "Name": "Axial test",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomAet": "PACS",
        "DicomPort": running.dicom_port,
        "HttpPort": running.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(configuration))
    # Without it every answer waits 40 ms for the sender's acknowledgement.
    environment = {**os.environ, "TCP_NODELAY": "1"}
    if not nodelay:
        del environment["TCP_NODELAY"]
    with _process([str(ORTHANC), str(file)], folder, folder / "orthanc.log", environment):
        wait_until(lambda: echo(running.dicom_port), 30, "Orthanc answers C-ECHO")
        # Its two doors are opened one after the other.
        wait_until(running.answers, 30, "Orthanc answers HTTP")
        yield running


def echo(port: int) -> bool:
    """Whether somebody answers C-ECHO."""
    call = Call("127.0.0.1", port, "PACS", "TEST", connect_timeout_s=1.0, answer_timeout_s=5.0)
    context = ProposedContext(1, VERIFICATION, ("1.2.840.10008.1.2",))
    try:
        with Association(call, [context]) as association:
            return association.echo() == 0x0000
    except AssociationError:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Waits for something that another process or thread does; fails by name after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"Within {timeout_s:g} s it did not happen that {what}.")
        time.sleep(0.01)


@contextmanager
def _process(
    command: list[str], folder: Path, log: Path, environment: dict[str, str] | None = None
) -> Generator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

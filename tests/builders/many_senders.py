"""Associations one after the other, beside processes that keep every core busy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.dimse.files import FoundInstance
from services.dimse.line import Call
from services.dimse.pdu import ProposedContext
from services.dimse.requestor import Association, StoreRequest
from tests.builders.network import free_port
from tests.builders.peers import echo, wait_until

STORESCP = Path("/usr/bin/storescp")
_BUSY = "while True: pass"


@contextmanager
def busy_processes(count: int) -> Generator[None]:
    """Processes that compute without end."""
    running = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def forgetting_storescp() -> Generator[int]:
    """dcmtk's storescp that answers and keeps nothing: what is waited for is no disk."""
    port = free_port()
    command = [str(STORESCP), "--ignore", "--fork", "-aet", "PACS", str(port)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TCP_NODELAY": "1"},
    )
    try:
        wait_until(lambda: echo(port), 20, "storescp answers C-ECHO")
        yield port
    finally:
        process.kill()
        process.wait()


def longest_wait(port: int, instances: Sequence[FoundInstance], associations: int) -> float:
    """The longest wait for an answer, in seconds; every one is a success.

    The instances are of one SOP class in one transfer syntax.
    """
    call = Call("127.0.0.1", port, "PACS", "AXIAL", connect_timeout_s=30.0)
    sop_class, syntax = instances[0].sop_class_uid, instances[0].transfer_syntax_uid
    longest = 0.0
    for _ in range(associations):
        with Association(call, [ProposedContext(1, sop_class, (syntax,))]) as association:
            for instance in instances:
                with instance.open() as data:
                    request = StoreRequest(
                        1, sop_class, instance.sop_instance_uid, data, instance.data_bytes
                    )
                    begun = time.monotonic()
                    status = association.store(request).status
                longest = max(longest, time.monotonic() - begun)
                assert status == 0x0000, instance.file
    return longest

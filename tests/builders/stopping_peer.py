"""A C-STORE SCP that stops as a whole (SIGSTOP) while its first object arrives.

It accepts the association, reads the first P-DATA and then nothing more, until it gets SIGCONT;
after that it stores everything: ``python -m tests.builders.stopping_peer PORT``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

from tests.builders.network import free_port
from tests.builders.peers import SEG, SR, echo, wait_until

CHECKOUT = Path(__file__).resolve().parents[2]


class StoppingPeer:
    """The running process."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.port = port
        self._process = process

    @property
    def stopped(self) -> bool:
        """Whether the kernel holds it."""
        status = Path(f"/proc/{self._process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def go_on(self) -> None:
        """Lets it read again."""
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def stopping_peer(log: Path) -> Generator[StoppingPeer]:
    """Runs the peer; its output goes to `log`."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(port)],
            cwd=CHECKOUT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: echo(port), 20, "the peer answers C-ECHO")
            yield StoppingPeer(process, port)
        finally:
            process.kill()  # ends a stopped process too
            process.wait()


def _serve(port: int) -> None:
    left = [signal.SIGSTOP]

    def received(event: evt.Event) -> None:
        # The first fragments of an echo are small; an object fills its PDUs.
        if isinstance(event.pdu, P_DATA_TF) and len(event.pdu) > 8192 and left:
            os.kill(os.getpid(), left.pop())

    def store(_event: evt.Event) -> int:
        return 0x0000

    entity = AE(ae_title="PACS")
    for sop_class in (Verification, SEG, SR):
        entity.add_supported_context(sop_class)
    entity.start_server(
        ("127.0.0.1", port),
        block=True,
        evt_handlers=[(evt.EVT_PDU_RECV, received), (evt.EVT_C_STORE, store)],
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

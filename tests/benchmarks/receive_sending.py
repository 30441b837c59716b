"""`axial send` beside dcmsend: the same files to the same listener of ours, in turn.

Each whole command is measured, from its start to its end, interpreter and all; and the sending
alone, in a process that runs already. The listener syncs every instance, so that much of the time
is its own in both. Small instances are sent by pynetdicom's requestor too, as it was before sending
was ours. And the longest wait for an answer in many associations beside processes that keep every
core busy: a library whose own thread reads along loses answers then.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.sending import send_instances
from tests.benchmarks.receive_engine import CtSets
from tests.benchmarks.receive_pynetdicom import send_by_pynetdicom
from tests.benchmarks.receive_servers import DCMSEND, Ours, Server
from tests.benchmarks.rows import Row, budget
from tests.benchmarks.scratch import scratch_folders
from tests.builders.many_senders import busy_processes, forgetting_storescp, longest_wait
from tests.builders.peers import wait_until

_INSTANCES, _SIDE = 600, 512
_REPEATS = 5
_COMMAND = [str(Path(sys.executable).with_name("axial")), "send"]
_VS_DCMSEND, _VS_PYNETDICOM = 1.0, 3.0
_SMALL_SIDE = 64
_ASSOCIATIONS, _EACH, _BUSY = 20, 176, 2
_ANSWER_WITHIN_S = 1.0


def rows() -> list[Row]:
    """Measures both senders in turn, in one run, then the longest wait."""
    with scratch_folders() as scratch, ExitStack() as running:
        server = Ours(scratch.folder())
        running.enter_context(server)
        sets = CtSets(scratch.folder(), _INSTANCES, _SIDE)
        ways: deque[tuple[str, Callable[[], None]]] = deque(
            [
                ("command", lambda: _run([*_COMMAND, str(sets.folder), *_where(server), *_ONE])),
                ("4", lambda: _run([*_COMMAND, str(sets.folder), *_where(server), *_FOUR])),
                ("alone", lambda: _send(sets.folder, server.port)),
                ("dcmsend", lambda: _run(_dcmsend(server, sets.folder))),
            ]
        )
        seconds: dict[str, list[float]] = {name: [] for name, _ in ways}
        for _ in range(_REPEATS):
            ways.rotate()  # whoever comes first finds the disk busy with the files
            for name, send in ways:
                sets.next()
                begun = time.perf_counter()
                send()
                seconds[name].append(time.perf_counter() - begun)
                wait_until(
                    lambda: server.has_in_store(sets.sets * _INSTANCES), 60, "all is in the store"
                )
                server.forget()
        median = {name: statistics.median(values) for name, values in seconds.items()}
        ours, before = _small(CtSets(scratch.folder(), _EACH, _SMALL_SIDE), server.port)
        with forgetting_storescp() as port, busy_processes(_BUSY):
            longest = longest_wait(port, find_instances(sets.folder)[:_EACH], _ASSOCIATIONS)
    theirs = median["dcmsend"]
    return [
        Row(name, median[way], theirs, "s", theirs / median[way], _VS_DCMSEND, "higher")
        for name, way in (
            ("receive-send-command-vs-dcmsend", "command"),
            ("receive-send-command-4-associations-vs-dcmsend", "4"),
            ("receive-send-alone-vs-dcmsend", "alone"),
        )
    ] + [
        Row(
            "receive-send-small-vs-pynetdicom",
            ours,
            before,
            "s",
            before / ours,
            _VS_PYNETDICOM,
            "higher",
        ),
        budget("receive-send-longest-wait", longest, "s", _ANSWER_WITHIN_S),
    ]


_ONE, _FOUR = ("--associations", "1"), ("--associations", "4")


def _small(sets: CtSets, port: int) -> tuple[float, float]:
    """Seconds for small instances over one association: ours, and pynetdicom's; in turn."""
    ours: list[float] = []
    before: list[float] = []
    for _ in range(_REPEATS):
        for seconds, send in ((ours, _send), (before, _send_by_pynetdicom)):
            sets.next()
            begun = time.perf_counter()
            send(sets.folder, port)
            seconds.append(time.perf_counter() - begun)
    return statistics.median(ours), statistics.median(before)


def _send_by_pynetdicom(folder: Path, port: int) -> None:
    send_by_pynetdicom(find_instances(folder), port, "AXIAL")


def _where(server: Server) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(server.port), "--called", "AXIAL"]


def _dcmsend(server: Server, folder: Path) -> list[str]:
    target = ["-aec", "AXIAL", "127.0.0.1", str(server.port)]
    return [str(DCMSEND), *target, "--scan-directories", str(folder)]


def _run(command: list[str]) -> None:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=120)


def _send(folder: Path, port: int) -> None:
    report = send_instances(find_instances(folder), Call("127.0.0.1", port, "AXIAL", "BENCH"))
    if report.failed:
        raise RuntimeError(report.failed[0][1])

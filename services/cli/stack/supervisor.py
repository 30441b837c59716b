"""The supervisor: starts the stack's processes, restarts what dies, stops all on a signal."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from services.cli.output import CommandError
from services.cli.stack.processes import ManagedProcess
from services.cli.stack.state import StackState, write_state
from services.common.settings import Settings

# How often a starting process is asked whether it is ready.
READY_POLL_S = 0.05
# A large model is loaded, and proven on its known answer, before it is ready.
START_DEADLINE_S = 300.0
# A process that dies again and again is restarted after this long, doubling up to the last.
FIRST_RESTART_S = 0.2
LONGEST_RESTART_S = 30.0
# A process that lived this long starts with a clean record.
GOOD_LIFE_S = 10.0
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes] | None
    started: float
    failures: int = 0
    restart_at: float | None = None


class Supervisor:
    """Runs processes until somebody asks it to stop.

    It waits on signals, not on a clock: a dead child is noticed at once and costs nothing while
    all is well. Children get SIGTERM when the supervisor itself dies.
    """

    def __init__(self, settings: Settings, processes: Sequence[ManagedProcess]) -> None:
        self._settings = settings
        self._processes = {process.name: process for process in processes}
        self._running: dict[str, _Running] = {}
        self._ready = False
        self._stopping = False
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def start(self, on_ready: Callable[[str, float], None]) -> float:
        """Starts every process and waits until all are ready; returns how long that lasted, in
        seconds.

        Raises:
            CommandError: a process ended or did not become ready; all are stopped then.
        """
        begun = time.monotonic()
        for process in self._processes.values():
            self._running[process.name] = _Running(self._spawn(process), time.monotonic())
        self._write_state()
        waiting = dict(self._processes)
        with httpx.Client(timeout=1.0, trust_env=False) as client:
            while waiting:
                for name in [n for n, p in waiting.items() if _is_ready(p, client)]:
                    on_ready(name, time.monotonic() - begun)
                    del waiting[name]
                for process in self._processes.values():
                    if process.guard is not None:
                        process.guard()
                self._give_up_on_failure(waiting, begun)
                if waiting:
                    self._wait(READY_POLL_S)
        self._ready = True
        self._write_state()
        return time.monotonic() - begun

    def run(self) -> None:
        """Restarts what dies, until SIGTERM or SIGINT; then stops all."""
        while not self._stopping:
            self._reap()
            due = [r.restart_at for r in self._running.values() if r.restart_at is not None]
            now = time.monotonic()
            self._wait(None if not due else max(0.0, min(due) - now))
            self._restart_due()
        self.stop()

    def stop(self) -> None:
        """Stops all processes in their order; kills what outlives its grace period."""
        self._stopping = True
        groups: dict[int, list[subprocess.Popen[bytes]]] = {}
        for name, running in self._running.items():
            if running.process is not None and running.process.poll() is None:
                order = self._processes[name].stop_order
                groups.setdefault(order, []).append(running.process)
        deadline = time.monotonic() + self._settings.grace_period_s + 5.0
        # What feeds others goes first, but nobody waits for it to be gone: a listener that
        # finishes its associations must not keep the others from finishing theirs.
        for _, processes in sorted(groups.items()):
            for process in processes:
                process.terminate()
        for process in (p for _, group in sorted(groups.items()) for p in group):
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._processes.values():
            if process.tidy is not None:
                process.tidy()
        self._ready = False
        self._write_state()

    def _spawn(self, process: ManagedProcess) -> subprocess.Popen[bytes]:
        if process.tidy is not None:
            process.tidy()
        logs = self._settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / f"{process.name}.log").open("ab") as log:
            return subprocess.Popen(
                list(process.argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if process.environment is None else dict(process.environment),
                cwd=process.folder,
                preexec_fn=_in_child,
            )

    def _wait(self, timeout_s: float | None) -> None:
        """Waits for a signal; a dead child or the timeout end the wait too."""
        if timeout_s is None:
            received: int | None = signal.sigwait(_SIGNALS)
        else:
            info = signal.sigtimedwait(_SIGNALS, timeout_s)
            received = None if info is None else info.si_signo
        if received in (signal.SIGTERM, signal.SIGINT):
            self._stopping = True

    def _reap(self) -> None:
        now = time.monotonic()
        for running in self._running.values():
            if running.process is None or running.process.poll() is None:
                continue
            if now - running.started > GOOD_LIFE_S:
                running.failures = 0
            wait_s = min(LONGEST_RESTART_S, FIRST_RESTART_S * 2**running.failures)
            running.failures += 1
            running.process = None
            running.restart_at = now + wait_s

    def _restart_due(self) -> None:
        now = time.monotonic()
        restarted = False
        for name, running in self._running.items():
            if running.restart_at is not None and running.restart_at <= now and not self._stopping:
                running.process = self._spawn(self._processes[name])
                running.started = now
                running.restart_at = None
                restarted = True
        if restarted:
            self._write_state()

    def _give_up_on_failure(self, waiting: dict[str, ManagedProcess], begun: float) -> None:
        ended = [
            name
            for name, running in self._running.items()
            if running.process is not None and running.process.poll() is not None
        ]
        late = time.monotonic() - begun > START_DEADLINE_S
        if not ended and not late and not self._stopping:
            return
        self.stop()
        name = ended[0] if ended else next(iter(waiting), "")
        log = self._settings.data_dir / "logs" / f"{name}.log"
        what = "ended while starting" if ended else "did not become ready"
        raise CommandError(f"{name} {what}. Its last words ({log}):\n{_tail(log)}")

    def _write_state(self) -> None:
        own = psutil.Process()
        pids = {n: r.process.pid for n, r in self._running.items() if r.process is not None}
        write_state(self._settings, StackState(own.pid, own.create_time(), pids, self._ready))


def stop_with_parent() -> None:
    """Has the kernel send SIGTERM to this process when its parent dies (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _in_child() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.setsid()  # Ctrl-C in a terminal reaches the supervisor alone, which stops them in order
    stop_with_parent()


def _is_ready(process: ManagedProcess, client: httpx.Client) -> bool:
    if process.ready_port is not None:
        with socket.socket() as probe:
            probe.settimeout(0.2)
            return probe.connect_ex(("127.0.0.1", process.ready_port)) == 0
    try:
        return all(client.get(url).status_code == 200 for url in process.ready_urls)
    except httpx.HTTPError:
        return False


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
    except OSError:
        return "(no log)"

"""The supervisor keeps processes running, and leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.cli.stack.local_settings import free_port

# The supervisor blocks signals for its whole process, so that it has one of its own here.
_PROGRAM = """
import sys
from pathlib import Path
from services.cli.output import CommandError
from services.cli.stack import ManagedProcess, Supervisor
from services.common.settings import load_settings

folder, port, child = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
settings = load_settings(None, {"AXIAL_DATA_DIR": str(folder)}).settings
supervisor = Supervisor(settings, [ManagedProcess("child", [sys.executable, child], (), port)])
try:
    supervisor.start(lambda *_: None)
except CommandError as error:
    sys.exit(f"refused: {error}")
supervisor.run()
"""
_SERVER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", {port}), reuse_port=True)
time.sleep(600)
"""


@contextmanager
def _started(tmp_path: Path, child: str) -> Generator[subprocess.Popen[str]]:
    port = free_port()
    program, script = tmp_path / "program.py", tmp_path / "child.py"
    program.write_text(textwrap.dedent(_PROGRAM), encoding="utf-8")
    script.write_text(child.format(port=port), encoding="utf-8")
    arguments = [sys.executable, str(program), str(tmp_path / "data"), str(port), str(script)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _wait_until_ready(tmp_path: Path) -> None:
    state = tmp_path / "data" / "run" / "stack.json"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if state.exists() and json.loads(state.read_text(encoding="utf-8"))["ready"]:
            return
        time.sleep(0.01)
    raise AssertionError("not ready")


def _child(process: subprocess.Popen[str], other_than: int = 0) -> psutil.Process:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if child.pid != other_than and child.status() != psutil.STATUS_ZOMBIE:
                return child
        time.sleep(0.01)
    raise AssertionError("no child")


def test_dead_process_is_restarted_and_all_stop_on_sigterm(tmp_path: Path) -> None:
    with _started(tmp_path, _SERVER) as process:
        _wait_until_ready(tmp_path)
        first = _child(process)
        first.kill()
        second = _child(process, other_than=first.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert not second.is_running()


def test_processes_do_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    with _started(tmp_path, _SERVER) as process:
        _wait_until_ready(tmp_path)
        child = _child(process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        child.wait(10)


def test_process_that_ends_while_starting_is_named_with_its_last_words(tmp_path: Path) -> None:
    with _started(tmp_path, "import sys\nsys.exit('no port {port} for me')\n") as process:
        _, words = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "child ended while starting" in words
    assert "for me" in words


@pytest.mark.parametrize("command", ["up", "send", "status", "why", "models build", "config show"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", *command.split(), "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "120", "PATH": "/usr/bin:/bin"},
    )
    assert "Example" in ended.stdout

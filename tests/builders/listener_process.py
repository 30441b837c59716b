"""A listener in a process of its own, started again on the same data as often as wanted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from services.common.settings import Settings, load_settings
from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.sending import SendReport, send_instances
from tests.builders.network import free_port
from tests.builders.trust import CERTIFICATES, credentials

CHECKOUT = Path(__file__).resolve().parents[2]
_READY_WITHIN_S = 60.0


class ListenerProcess:
    """The command line's listener with settings of its own.

    Args:
        folder: its settings, its log and its data.
        settings: groups to add to what every such listener has.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._file = folder / "axial.yaml"
        credentials("listener")  # made before the process looks for them
        listener = {
            "port": free_port(),
            "health_port": free_port(),
            "intake_address": "127.0.0.1:0",
            "listener_id": "listener",
            "receivers": 1,
            "accept_unknown_peers": True,
            "quiet_period_s": 0.3,
            **settings.pop("listener", {}),
        }
        rpc = {"certificates": str(CERTIFICATES)}
        tree = {"data_dir": str(folder / "data"), "listener": listener, "rpc": rpc, **settings}
        self._file.write_text(yaml.safe_dump(tree), encoding="utf-8")
        self.settings: Settings = load_settings(self._file, {}).settings

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[bytes]]:
        """The running process; killed when the context is left."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "services.listener"],
                cwd=CHECKOUT,
                env=self.environment(),
                stderr=log,
                start_new_session=True,
            )
            try:
                self._wait_alive(process)
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def environment(self) -> dict[str, str]:
        """What the process finds in its environment."""
        return {**os.environ, "AXIAL_CONFIG": str(self._file)}

    def send(self, folder: Path) -> SendReport:
        """Sends the instances of a folder once."""
        call = Call("127.0.0.1", self.settings.listener.port, "AXIAL", "TEST")
        return send_instances(find_instances(folder), call)

    def readiness(self) -> dict[str, Any]:
        """What /readyz says."""
        url = f"http://127.0.0.1:{self.settings.listener.health_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def log(self) -> str:
        """What it wrote down so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def _wait_alive(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while True:
            try:
                self.readiness()
            except OSError:
                assert process.poll() is None, self.log()
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.05)
            else:
                return

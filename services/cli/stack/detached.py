"""A stack in a process of its own, for whoever starts one and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.cli.output import CommandError
from services.cli.stack.state import running_state
from services.cli.stack.supervisor import stop_with_parent
from services.common.settings import Settings

READY_POLL_S = 0.05
START_DEADLINE_S = 310.0


class DetachedStack:
    """``axial up`` as a process; outlives its starter only where that is asked for."""

    def __init__(
        self,
        settings_file: Path,
        settings: Settings,
        stand_in_pacs: Path | None = None,
        *,
        outlives: bool = False,
    ) -> None:
        """Args:
        settings_file: what the stack reads.
        settings: the same, loaded.
        stand_in_pacs: folder of a stand-in PACS beside it.
        outlives: go on when the starter is gone; else it is stopped then, however that came.
        """
        self._file = settings_file.absolute()
        self._settings = settings
        self._pacs = stand_in_pacs
        self._outlives = outlives
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the supervisor printed."""
        return self._settings.data_dir / "logs" / "up.log"

    def start(self) -> float:
        """Starts the stack and waits until it is ready; returns how long that lasted, in seconds.

        Raises:
            CommandError: the stack ended; the message has its last words.
        """
        argv = [sys.executable, "-m", "services.cli", "--config", str(self._file), "up"]
        if self._pacs is not None:
            argv += ["--stand-in-pacs", str(self._pacs.absolute())]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=None if self._outlives else stop_with_parent,
                env={**os.environ, "COLUMNS": "160"},
            )
        while True:
            state = running_state(self._settings)
            if state is not None and state.ready:
                return time.monotonic() - begun
            ended = self._process.poll() is not None
            if ended or time.monotonic() - begun > START_DEADLINE_S:
                self.stop()
                words = self.log.read_text(encoding="utf-8", errors="replace").strip()
                raise CommandError(f"The stack did not start:\n{words}")
            time.sleep(READY_POLL_S)

    def stop(self) -> None:
        """Stops the stack and waits until it is gone; kills the stack when it does not go."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._settings.grace_period_s + 10.0)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

"""A whole stack for tests: real processes, real Triton, real PACS, a folder of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from services.cli.gateway_client import GatewayClient
from services.cli.output import CommandError
from services.cli.stack import running_state
from services.cli.stack.detached import DetachedStack
from services.cli.stack.local_settings import free_port, local_settings, write_settings
from services.common.settings import Settings, load_settings
from services.dimse.files import find_instances
from services.dimse.line import Call
from services.dimse.sending import SendError, SendReport, send_instances

CHECKOUT = Path(__file__).parents[2]
SENDER = "SENDER"
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
SR = "1.2.840.10008.5.1.4.1.1.88.34"
QUIET_PERIOD_S = 0.7
DEADLINE_S = 120.0


@dataclass
class StackUnderTest:
    """A running stack and what tests do with it."""

    folder: Path
    settings_file: Path
    settings: Settings
    stack: DetachedStack
    client: GatewayClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = GatewayClient(self.settings)

    @property
    def pacs(self) -> Path:
        """The stand-in PACS' folder."""
        return self.folder / "pacs"

    def send(self, folder: Path) -> SendReport:
        """Sends a folder once."""
        listener = self.settings.listener
        call = Call(listener.host, listener.port, listener.ae_title, SENDER)
        return send_instances(find_instances(folder), call)

    def send_until_accepted(self, folder: Path) -> None:
        """Sends as a PACS does: what was not acknowledged is sent again."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                if not self.send(folder).failed:
                    return
            except SendError:
                time.sleep(0.1)
        raise AssertionError("The listener did not take the study.")

    def study(self, uid: str) -> dict[str, Any] | None:
        """The study as the gateway describes it."""
        return self.client.get(f"/api/v1/studies/{uid}")

    def wait_until_done(self, uid: str, revision: int = 1) -> dict[str, Any]:
        """Waits until nothing is left to do for at least this revision."""
        return self.wait(
            uid, lambda s: s["state"] == "done" and s["revision"] >= revision, "be done"
        )

    def wait(self, uid: str, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Waits until the study fulfils `wanted`."""
        deadline = time.monotonic() + DEADLINE_S
        study: dict[str, Any] | None = None
        while time.monotonic() < deadline:
            try:
                study = self.study(uid)
            except CommandError:  # the gateway itself may just have been killed
                study = None
            if study is not None and wanted(study):
                return study
            time.sleep(0.05)
        raise AssertionError(f"The study did not {what}: {study}\n{self.last_words()}")

    def in_pacs(self, study_uid: str, sop_class: str) -> list[Dataset]:
        """The PACS' objects of a class in a study."""
        found: list[Dataset] = []
        for file in sorted((self.pacs / "instances").rglob("*")):
            if file.is_file():
                dataset = pydicom.dcmread(file)
                if dataset.StudyInstanceUID == study_uid and dataset.SOPClassUID == sop_class:
                    found.append(dataset)
        return found

    def pid(self, name: str) -> int:
        """The process id of one of the stack's processes."""
        state = running_state(self.settings)
        assert state is not None
        return state.pids[name]

    def crash_at(self, point: str, victim: str | None = None) -> None:
        """Has a process killed (SIGKILL) when it, or another one, passes a named point."""
        request = self.folder / "crash"
        request.with_suffix(".done").unlink(missing_ok=True)
        line = point if victim is None else f"{point} {self.pid(victim)}"
        temporary = request.with_suffix(".new")
        temporary.write_text(line, encoding="ascii")
        temporary.rename(request)

    def wait_for_crash(self) -> None:
        """Waits until the asked-for crash has happened."""
        deadline = time.monotonic() + DEADLINE_S
        while not self.crashed():
            assert time.monotonic() < deadline, "The point was never passed."
            time.sleep(0.02)

    @contextmanager
    def held_back(self, name: str) -> Generator[None]:
        """Nothing that dies is restarted while the context is open."""
        state = running_state(self.settings)
        assert state is not None
        assert name in state.pids
        os.kill(state.supervisor_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(state.supervisor_pid, signal.SIGCONT)

    def crashed(self) -> bool:
        """Whether the asked-for crash has happened."""
        return (self.folder / "crash.done").exists()

    def last_words(self) -> str:
        """The ends of all logs."""
        logs = sorted((self.folder / "data" / "logs").glob("*.log"))
        return "\n".join(
            f"== {log.name}\n{log.read_text(errors='replace')[-1500:]}" for log in logs
        )


@contextmanager
def running_stack(
    folder: Path,
    *,
    catalogue: Path = CHECKOUT / "models" / "catalogue",
    repository: Path = CHECKOUT / "build" / "models",
    **changes: Any,
) -> Generator[StackUnderTest]:
    """A stack in `folder`, stopped at the end whatever happens."""
    tree = local_settings(
        folder,
        catalogue=catalogue,
        repository=repository,
        any_ports=True,
        **changes,
    )
    tree["listener"].setdefault("quiet_period_s", QUIET_PERIOD_S)
    tree["listener"].setdefault(
        "peers",
        [{"name": "sender", "ae_title": SENDER}, {"name": "orthanc", "ae_title": "ORTHANC"}],
    )
    destination: dict[str, Any] = {
        "name": "pacs",
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": free_port(),
    }
    destination["first_backoff_s"] = 0.2
    tree["reporting"].setdefault("destinations", []).insert(0, destination)
    tree.setdefault("telemetry", {"traces": "file"})
    settings_file = write_settings(folder / "axial.yaml", tree)
    settings = load_settings(settings_file, {}).settings
    stack = DetachedStack(settings_file, settings, folder / "pacs")
    before = os.environ.get("AXIAL_CRASH_FILE")
    os.environ["AXIAL_CRASH_FILE"] = str(folder / "crash")
    try:
        stack.start()
        yield StackUnderTest(folder, settings_file, settings, stack)
    finally:
        stack.stop()
        if before is None:
            del os.environ["AXIAL_CRASH_FILE"]
        else:
            os.environ["AXIAL_CRASH_FILE"] = before

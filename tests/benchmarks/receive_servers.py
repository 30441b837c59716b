"""Servers to send to, each a real process on the same disk: ours and its peers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import psutil
import yaml

from tests.builders.network import free_port

# Debian's, not pynetdicom's tools of the same names in the virtual environment.
STORESCP, DCMSEND = Path("/usr/bin/storescp"), Path("/usr/bin/dcmsend")
ORTHANC = Path("/usr/sbin/Orthanc")
_START_DEADLINE_S = 60.0
# Files of instances are larger; what a server keeps of them is not touched.
_FORGOTTEN_BYTES = 256 << 10
_INDEX = re.compile(r"^index|\.sqlite")


class Server(ABC):
    """A server in a process; a context manager.

    Args:
        folder: what it may write into.
    """

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Server:
        log = (self.folder / "log").open("w")
        self._process = subprocess.Popen(
            self.command(), stdout=log, stderr=log, text=True, env=self.environment()
        )
        deadline = time.monotonic() + _START_DEADLINE_S
        while not self.is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        for process in [*psutil.Process(self._process.pid).children(), self._process]:
            process.kill()
        self._process.wait()

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it."""

    def environment(self) -> dict[str, str]:
        """Debian's dcmtk and Orthanc answer in two writes with Nagle on unless they are told."""
        return {**os.environ, "TCP_NODELAY": "1"}

    def is_up(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def senders(
        self, portions: Sequence[list[str]], environment: dict[str, str]
    ) -> list[list[str]]:
        """The command of each association."""
        target = ["-aec", "AXIAL", "127.0.0.1", str(self.port)]
        return [[str(DCMSEND), *target, *portion] for portion in portions if environment]

    def processes(self) -> list[psutil.Process]:
        """Its processes."""
        assert self._process is not None
        main = psutil.Process(self._process.pid)
        return [main, *main.children(recursive=True)]

    def forget(self) -> None:
        """Empties the files of what it has received.

        The memory that holds them goes to the next ones: on a virtual machine the first touch of
        a page costs more than the copy. They are not deleted: see `scratch`.
        """
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                if not _INDEX.search(name) and path.stat().st_size > _FORGOTTEN_BYTES:
                    os.truncate(path, 0)


class Storescp(Server):
    """dcmtk's storescp, a process for each association; it never syncs."""

    name = "storescp"

    def command(self) -> list[str]:
        return [str(STORESCP), "--fork", "-od", str(self.folder), str(self.port)]


class Orthanc(Server):
    """Orthanc as Debian ships it, with SQLite; it does not sync."""

    name = "orthanc"

    def command(self) -> list[str]:
        settings = {
            "DicomPort": self.port,
            "HttpPort": free_port(),
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "DicomAlwaysAllowStore": True,
            "DicomCheckCalledAet": False,
            "OverwriteInstances": True,
        }
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(settings))
        return [str(ORTHANC), str(file)]


class Floor(Server):
    """Plain TCP, write and fdatasync (`receive_floor`)."""

    name = "floor"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "tests.benchmarks.receive_floor", "serve", str(self.folder)]

    def is_up(self) -> bool:
        said = (self.folder / "log").read_text().split()
        self.port = int(said[0]) if said else 0
        return bool(said)

    def senders(
        self, portions: Sequence[list[str]], environment: dict[str, str]
    ) -> list[list[str]]:
        size = os.path.getsize(portions[0][0])  # noqa: PTH202 - paths are text here
        module = [sys.executable, "-m", "tests.benchmarks.receive_floor", "send", str(self.port)]
        return [[*module, str(len(portion)), str(size)] for portion in portions]


class Ours(Server):
    """Our listener with everything on: synced, registered, in the store."""

    name = "axial"

    def command(self) -> list[str]:
        self._health = free_port()
        settings = {
            "data_dir": str(self.folder / "data"),
            "listener": {
                "port": self.port,
                "health_port": self._health,
                "intake_address": "127.0.0.1:0",
                "accept_unknown_peers": True,
                "quiet_period_s": 3600,
                "listener_id": "bench",
            },
        }
        file = self.folder / "axial.yaml"
        file.write_text(yaml.safe_dump(settings))
        return [sys.executable, "-m", "services.listener", "--config", str(file)]

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=5):
                return True
        except OSError:
            return False

    def has_in_store(self, instances: int) -> bool:
        return len(list((self.folder / "data" / "store").rglob("*.dcm"))) >= instances

    def receivers(self) -> list[psutil.Process]:
        """The processes that serve associations."""
        return [p for p in self.processes() if "services.listener.door" in p.cmdline()]

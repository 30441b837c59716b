"""``python -m tests.builders.stow_process FOLDER``: a STOW-RS door in a process of its own.

It prints its address and serves until its standard input ends. What it stores it removes again, so
that the disk is measured no more than the memory; it counts and hashes it before.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from services.common.settings import TelemetrySettings
from services.common.telemetry import setup_logs
from services.listener.door.part10 import META_BYTES
from tests.builders.stow import open_door

_READ_BYTES = 1 << 20


class _Forgetful(list[Any]):
    """Takes the door's messages; keeps of each file its digest."""

    def __init__(self) -> None:
        super().__init__()
        self.digests: list[str] = []

    def append(self, message: Any, /) -> None:
        path = Path(message.file.path)
        digest = hashlib.sha256()
        with path.open("rb") as file:
            file.seek(META_BYTES)
            while chunk := file.read(_READ_BYTES):
                digest.update(chunk)
        path.unlink()
        self.digests.append(digest.hexdigest())


def main(folder: Path) -> None:
    """Serves until standard input ends; then prints the digests."""
    setup_logs("stow", TelemetrySettings())
    with open_door(folder) as door:
        told = _Forgetful()
        door.told = told
        sys.stdout.write(door.url + "\n")
        sys.stdout.flush()
        sys.stdin.read()
    sys.stdout.write(json.dumps(told.digests) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

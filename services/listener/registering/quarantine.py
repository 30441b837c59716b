"""Files that cannot be taken for an instance, put aside where a person finds them with the reason.

``<data_dir>/quarantine``: the file under its own name, and beside it ``<name>.json`` with the
reason and the time. They stay on the listener's own disk until somebody has looked at them.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

from services.common.database import utc_now
from services.common.durable import make_folder, sync_folder
from services.common.identity import hashed
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import FILES_QUARANTINED

_log = get_logger("listener")


class Quarantine:
    """A folder of files that were put aside.

    Args:
        folder: on the same file system as the spool; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, file: Path, reason: str, problem: str) -> None:
        """Puts a file aside, durably; a file that is not there any more was put aside before.

        Args:
            reason: ``torn_file`` or ``unreadable_instance`` (docs/runbook.md).
            problem: a sentence without patient data.

        Raises:
            OSError: the disk refused; the file is where it was.
        """
        if not file.exists():
            return
        make_folder(self._folder)
        target = self._free_name(file.name)
        note = {"reason": reason, "problem": problem, "at": utc_now().isoformat()}
        with target.with_name(f"{target.name}.json").open("w", encoding="utf-8") as written:
            json.dump(note, written)
            written.flush()
            os.fsync(written.fileno())
        file.rename(target)
        for folder in (self._folder, file.parent):
            sync_folder(folder)
        FILES_QUARANTINED.labels(reason).inc()
        _log.error("file_quarantined", file_hash=hashed(file.name), reason=reason, problem=problem)

    def _free_name(self, name: str) -> Path:
        # Two receivers may have given one name; neither file overwrites the other.
        tries = itertools.chain([name], (f"{number}-{name}" for number in itertools.count(2)))
        return next(path for each in tries if not (path := self._folder / each).exists())

"""Files that cannot be taken for an instance, put aside where a person finds them with the reason.

``<data_dir>/quarantine``: the file under its own name, and beside it ``<name>.json`` with the
reason and the time. They stay on the listener's own disk until somebody has looked at them.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

from services.common.database import utc_now
from services.common.durable import make_folder, sync_folder
from services.common.identity import hashed
from services.common.telemetry import get_logger
from services.common.telemetry.metrics import FILES_QUARANTINED

_log = get_logger("listener")

# Never acknowledged; and acknowledged, and no instance that can be registered.
TORN, UNREADABLE = "torn_file", "unreadable_instance"
_MOST_NAMED = 3


class Quarantine:
    """A folder of files that were put aside.

    Args:
        folder: on the same file system as the spool; made when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Names of the notes when they were last read, and the studies of acknowledged objects in
        # them, "" where none is known; replaced as a whole.
        self._read: tuple[frozenset[str], tuple[str, ...]] = frozenset(), ()

    def remark(self) -> str | None:
        """How many acknowledged objects lie here, of which studies; None where none does."""
        studies = self._acknowledged()
        if not studies:
            return None
        named = sorted({uid for uid in studies if uid})
        more = len(named) - _MOST_NAMED
        of = f", of study {', '.join(named[:_MOST_NAMED])}" if named else ""
        return (
            f"{len(studies)} acknowledged object(s){of}{f' and {more} more' if more > 0 else ''} "
            f"could not be registered and lie in {self._folder}, each with the reason beside it; "
            "no study has them. Look at them there, and move them elsewhere when that is settled."
        )

    def _acknowledged(self) -> tuple[str, ...]:
        names = frozenset(path.name for path in self._folder.glob("*.json"))
        known, studies = self._read
        if names != known:
            notes = [_note(self._folder / name) for name in sorted(names)]
            studies = tuple(
                str(note.get("study_uid") or "")
                for note in notes
                if note.get("reason") == UNREADABLE
            )
            self._read = names, studies
        return studies

    def put(self, file: Path, reason: str, problem: str, study_uid: str | None = None) -> None:
        """Puts a file aside, durably; a file that is not there any more was put aside before.

        Args:
            reason: `TORN` or `UNREADABLE` (docs/runbook.md).
            problem: a sentence without patient data.
            study_uid: the study that the file belongs to, where that is known.

        Raises:
            OSError: the disk refused; the file is where it was.
        """
        if not file.exists():
            return
        make_folder(self._folder)
        target = self._free_name(file.name)
        note = {"reason": reason, "problem": problem, "at": utc_now().isoformat()}
        if study_uid:
            note["study_uid"] = study_uid
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


def _note(file: Path) -> dict[str, Any]:
    """What was written down of a file; of one that nobody can read, that it is there."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"reason": UNREADABLE}

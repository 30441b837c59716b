"""A power cut, played: what was not synced may be gone, in part or whole.

`shim` is loaded into the processes; it notes what they ask of the file system. After they were
killed, `cut` makes the folders what a disk could hold at that moment: a file whose data were not
synced has any part of what was not; a name whose folder was not synced is there or not; a rename
that was not synced has happened or not. Removed names that were not synced may be back. What a
journal orders by itself is not relied on, but for one thing: a rename is never half done.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("power_cut.c")


def build_shim(folder: Path) -> Path:
    """Compiles the shim."""
    library = folder / "power_cut.so"
    command = ["cc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


def watched(shim: Path, log: Path, *roots: Path) -> dict[str, str]:
    """What a process needs in its environment to be watched below the roots."""
    return {
        "LD_PRELOAD": str(shim),
        "POWER_CUT_LOG": str(log),
        "POWER_CUT_ROOT": ":".join(str(root) for root in roots),
    }


@dataclass
class _File:
    """What is known of an inode: its durable length and what was written since its last sync."""

    unsynced: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])


@dataclass
class _Entry:
    """A change of a folder's entries that is not known to be durable.

    Attributes:
        old: the other name, of a rename.
    """

    kind: str
    path: str
    old: str = ""


def cut(log: Path, chance: random.Random) -> int:
    """Plays the cut; returns how many files and names it touched."""
    files, entries = _read(log)
    touched = 0
    # The newest first: a name may have been given and taken again.
    for entry in reversed(entries):
        if chance.random() < 0.5:
            touched += _undo(entry)
    inodes = {number: file for number, file in files.items() if file.unsynced}
    roots = {Path(entry.path).parent for entry in entries}
    for path in _all_files(log, roots):
        file = inodes.get(path.stat().st_ino)
        if file is not None:
            touched += 1
            _tear(path, file, chance)
    return touched


def _read(log: Path) -> tuple[dict[int, _File], list[_Entry]]:
    files: dict[int, _File] = {}
    pending: list[_Entry] = []
    begun: dict[str, tuple[str, list[_Entry]]] = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        verb, _, rest = line.partition(" ")
        words = rest.split(" ")
        if verb == "W":
            files.setdefault(int(words[0]), _File()).unsynced.append((int(words[1]), int(words[2])))
        elif verb == "S":
            files.setdefault(int(words[0]), _File()).unsynced.clear()
        elif verb in ("C", "L"):
            if verb == "C":  # a new file, perhaps with the number of one that is no more
                files[int(words[0])] = _File()
            pending.append(_Entry(verb, rest.partition(" ")[2]))
        elif verb == "R":
            old, _, new = rest.partition(" ")[2].partition("\t")
            pending.append(_Entry(verb, new, old))
        elif verb == "B":
            number, _, folder = rest.partition(" ")
            begun[number] = (folder, list(pending))
        elif verb == "D":
            folder, known = begun.pop(rest.strip())
            durable = [e for e in known if str(Path(e.path).parent) == folder]
            pending = [e for e in pending if not any(e is d for d in durable)]
    return files, pending


def _undo(entry: _Entry) -> int:
    path = Path(entry.path)
    if not path.exists():
        return 0
    if entry.kind == "R":
        if Path(entry.old).exists() or not Path(entry.old).parent.is_dir():
            return 0
        path.rename(entry.old)
    else:
        path.unlink()
    return 1


def _tear(path: Path, file: _File, chance: random.Random) -> None:
    """Some of the bytes that were not synced never reached the disk."""
    with path.open("r+b") as opened:
        for start, length in file.unsynced:
            fate = chance.random()
            if fate < 0.3:
                continue
            lost = start + chance.randrange(length)
            if fate < 0.7:  # the file ends there
                opened.truncate(min(lost, path.stat().st_size))
            else:  # the blocks are there, their bytes are not
                opened.seek(lost)
                opened.write(bytes(max(0, min(start + length, path.stat().st_size) - lost)))


def _all_files(log: Path, roots: set[Path]) -> Iterator[Path]:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("C "):
            roots.add(Path(line.split(" ", 2)[2]).parent)
    for root in roots:
        if root.is_dir():
            yield from (path for path in root.iterdir() if path.is_file())

"""A spool in memory, and what has to lie in it after each input."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from services.listener.door.messages import Stored, Told
from services.listener.door.spool import Spool


@contextmanager
def spool_in_memory() -> Generator[Spool]:
    """A spool for instances of a megabyte at most."""
    folder = Path(tempfile.mkdtemp(prefix="axial-fuzz-", dir="/dev/shm"))
    spool = Spool(folder / "spool", max_instance_bytes=1 << 20)
    try:
        yield spool
    finally:
        spool.close()
        shutil.rmtree(folder)


def empty_spool(spool: Spool, told: Iterable[Told]) -> set[str]:
    """Empties the spool and returns the paths of what was told of.

    Raises:
        AssertionError: something else lies in it, or something does not.
    """
    stored = {message.file.path for message in told if isinstance(message, Stored)}
    left = {str(file) for file in spool.folder.iterdir() if file.stat().st_size}
    if left != stored:
        raise AssertionError("The spool does not hold what was acknowledged, no less and no more.")
    for path in left:
        Path(path).unlink()
    return stored

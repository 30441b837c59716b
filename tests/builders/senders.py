"""Real senders of instances, and the proof that all they sent arrived as it was sent."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.common.store import StudyStore
from services.listener.door.part10 import META_BYTES
from tests.builders.stow import data_set_of

# Debian's, not pynetdicom's tools of the same names in the virtual environment.
STORESCU, DCMSEND = Path("/usr/bin/storescu"), Path("/usr/bin/dcmsend")
needs_dcmtk = pytest.mark.skipif(not STORESCU.exists(), reason="needs dcmtk (Debian: dcmtk)")
_WITHIN_S = 240
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Kept:
    """An instance as it was kept: who sent it, its transfer syntax, and its file."""

    peer: str
    transfer_syntax_uid: str
    file: Path

    @property
    def data(self) -> bytes:
        """The data set, byte for byte."""
        return self.file.read_bytes()[META_BYTES:]


def kept(engine: Engine, store: StudyStore) -> dict[str, Kept]:
    """Every instance that is registered, by SOP instance UID; nothing else may be in the store."""
    with engine.connect() as connection:
        rows = connection.execute(select(InstanceRow.__table__)).all()
    found = {
        row.sop_instance_uid: Kept(
            row.peer, row.transfer_syntax_uid, Path(store.path(row.store_key))
        )
        for row in rows
    }
    assert store.folder is not None
    assert set(store.folder.rglob("*.dcm")) == {one.file for one in found.values()}
    return found


def run_tool(*command: object, nodelay: bool = True) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end; with Nagle's algorithm on where `nodelay` is false."""
    return subprocess.run(
        _words(command),
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
        env=_environment(nodelay),
    )


def run_pynetdicom_storescu(*words: object) -> None:
    """Runs pynetdicom's storescu until all that it sends was answered.

    On a busy machine its own thread may take an answer from the one that waits for it; then it
    gives up after its timeout, and is started again as a sender would.
    """
    command = (sys.executable, "-m", "pynetdicom", "storescu", "--dimse-timeout", 5, *words)
    said = ""
    for _ in range(_PATIENCE):
        done = run_tool(*command)
        said = done.stderr
        if done.returncode == 0 and "E: " not in said:
            return
    raise AssertionError(said)


def run_together(commands: Iterable[Sequence[object]]) -> list[int]:
    """Runs tools at the same time; their exit codes."""
    running = [
        subprocess.Popen(
            _words(command),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_environment(nodelay=True),
        )
        for command in commands
    ]
    try:
        return [process.wait(_WITHIN_S) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()


def rewritten(files: Iterable[Path], folder: Path, tool: str, *options: str) -> list[Path]:
    """The files as one of dcmtk's tools writes them, which its senders send byte for byte."""
    folder.mkdir(parents=True)
    made: list[Path] = []
    for file in files:
        target = folder / file.name
        done = run_tool(f"/usr/bin/{tool}", *options, file, target)
        assert done.returncode == 0, done.stderr
        made.append(target)
    return made


def written(data: Dataset, target: Path) -> Path:
    """A data set as a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(target, enforce_file_format=True)
    return target


def assert_kept_as_sent(files: Sequence[Path], found: dict[str, Kept]) -> None:
    """Every file's data set is kept with the same SHA-256 and transfer syntax, and nothing else.

    Of a deflated one what it holds is compared: senders deflate anew.
    """
    sent = {_identity(file): file for file in files}
    assert len(sent) == len(files), "two files are one instance"
    assert set(found) == set(sent)
    for uid, file in sent.items():
        assert found[uid].transfer_syntax_uid == _syntax(file), file
        data = data_set_of(file.read_bytes())
        if _syntax(file) == DeflatedExplicitVRLittleEndian:
            assert _sha256(_inflated(found[uid].data)) == _sha256(_inflated(data)), file
        else:
            assert _sha256(found[uid].data) == _sha256(data), file


def _identity(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def _syntax(file: Path) -> str:
    return str(read_file_meta_info(file).TransferSyntaxUID)


def _inflated(data: bytes) -> bytes:
    return zlib.decompress(data, -zlib.MAX_WBITS)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _words(command: Iterable[object]) -> list[str]:
    return [str(word) for word in command]


def _environment(nodelay: bool) -> dict[str, str]:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    if not nodelay:
        del environment["TCP_NODELAY"]
    return environment

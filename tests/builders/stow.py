"""A STOW-RS door alone, bodies to send to it, and its answers."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pydicom
from pydicom.dataset import Dataset

from services.common.headers import scheme
from services.common.settings import AccessToken, ListenerSettings, StowSettings
from services.dimse.tls import TlsFiles
from services.listener.door.messages import RequestEnded, Stored, Told
from services.listener.door.part10 import META_BYTES
from services.listener.door.spool import Spool, SpooledFile
from services.listener.door.store import Facilities
from services.listener.peers.admission_rules import admission_rules
from services.listener.peers.presentation_contexts import accepted_contexts
from services.listener.stow.app import StowDoor
from services.listener.stow.server import open_stow

BOUNDARY = "stow-boundary"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


@dataclass
class OpenDoor:
    """A door that is open: where it is, and what was told of what came.

    Attributes:
        told: of what was stored, in their order; ended: of requests that have ended.
    """

    url: str
    spool: Path
    told: list[Stored] = field(default_factory=list[Stored])
    ended: list[RequestEnded] = field(default_factory=list[RequestEnded])

    def stored(self) -> dict[str, bytes]:
        """The data sets that were told of, by SOP instance UID, as they lie on the disk."""
        return {
            file.meta.sop_instance_uid: Path(file.path).read_bytes()[META_BYTES:]
            for file in self.spooled()
        }

    def spooled(self) -> list[SpooledFile]:
        """What was told of the files."""
        return [message.file for message in self.told]

    def files(self) -> list[Path]:
        """The spool's files that hold something."""
        found: list[Path] = []
        for file in self.spool.iterdir():
            with suppress(FileNotFoundError):  # it was given up meanwhile
                if file.stat().st_size:
                    found.append(file)
        return found


@contextmanager
def open_door(
    folder: Path,
    *,
    files: TlsFiles | None = None,
    watermark_bytes: int = 0,
    listener: dict[str, Any] | None = None,
    access_tokens: tuple[AccessToken, ...] = (),
    **stow: Any,
) -> Generator[OpenDoor]:
    """Opens the door on a free port of 127.0.0.1; by default anyone may store."""
    given = {"accept_unknown_peers": True, **(listener or {})}
    settings = ListenerSettings.model_validate(given)
    own = StowSettings.model_validate({"port": 0, "host": "127.0.0.1", **stow})
    spool = Spool(folder / "spool", own.max_instance_bytes)
    opened = OpenDoor("", folder / "spool")
    lock = threading.Lock()

    def tell(message: Told) -> None:
        with lock:
            if isinstance(message, Stored):
                opened.told.append(message)
            elif isinstance(message, RequestEnded):
                opened.ended.append(message)

    contexts = {one.sop_class_uid: one.transfer_syntaxes for one in accepted_contexts()}
    facilities = Facilities(spool, scheme(), watermark_bytes, tell)
    door = StowDoor(own, admission_rules(settings), facilities, contexts, access_tokens)
    try:
        with open_stow(door, files, finish_within_s=5) as server:
            kind = "https" if own.tls else "http"
            opened.url = f"{kind}://127.0.0.1:{server.port}"
            yield opened
    finally:
        spool.close()


def part(content: bytes, content_type: str = "application/dicom") -> bytes:
    """A part with its delimiter."""
    return f"--{BOUNDARY}\r\nContent-Type: {content_type}\r\n\r\n".encode() + content + b"\r\n"


def body(contents: Iterable[bytes]) -> bytes:
    """A whole body of DICOM parts."""
    return b"".join(map(part, contents)) + f"--{BOUNDARY}--\r\n".encode()


def data_set_of(file: bytes) -> bytes:
    """The data set of a DICOM file, as it is in the file (PS3.10 7.1, after its group length)."""
    return file[144 + int.from_bytes(file[140:144], "little") :]


def uid_of(file: Path) -> str:
    """The SOP instance UID of a DICOM file."""
    return str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)


def post(door: OpenDoor, content: Any, study: str = "", **headers: str) -> httpx.Response:
    """Sends a body to the door, or to a study's address there."""
    given = {"Content-Type": CONTENT_TYPE, "Accept": "application/dicom+json", **headers}
    url = f"{door.url}/studies/{study}".rstrip("/")
    return httpx.post(url, content=content, headers=given, timeout=60)


def answered(response: httpx.Response) -> Dataset:
    """The data set of an answer in JSON."""
    assert response.headers["content-type"] == "application/dicom+json"
    return Dataset.from_json(response.text)


def reasons(response: httpx.Response) -> list[int]:
    """Why instances failed: first those that are named, then those that are not."""
    answer = answered(response)
    sequences = ("FailedSOPSequence", "OtherFailuresSequence")
    return [item.FailureReason for name in sequences for item in answer.get(name, [])]

"""Instances that are told apart by their pixels alone, and a count of the files that hold them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from services.dimse.commands import C_STORE_RQ
from services.listener.door.statuses import StoreStatus
from tests.builders.raw_sender import RawSender
from tests.builders.series import sound_series
from tests.builders.stow import data_set_of
from tests.fuzz.dicom_door import SYNTAXES
from tests.fuzz.make_corpus import command, values

_CONTEXT = 2 * SYNTAXES.index(ExplicitVRLittleEndian) + 1


@dataclass(frozen=True, slots=True)
class Instance:
    """A data set in Explicit VR Little Endian.

    Attributes:
        pixels: SHA-256 of its pixels.
    """

    sop_instance_uid: str
    data: bytes
    pixels: str


class Instances:
    """Makes instances of one series, each with a UID and pixels of its own.

    Args:
        folder: where the file lies that they are made from.
    """

    def __init__(self, folder: Path) -> None:
        file = sound_series(folder)[0]
        data = pydicom.dcmread(file)
        self._data = data_set_of(file.read_bytes())
        self._uid = str(data.SOPInstanceUID)
        self.pixel_bytes = len(data.PixelData)
        assert self._data.endswith(data.PixelData)

    def another(self) -> Instance:
        """One that nobody has seen."""
        number = int.from_bytes(os.urandom(20), "big")
        length = len(self._uid) - len("2.25.")
        uid = f"2.25.{number % (9 * 10 ** (length - 1)) + 10 ** (length - 1)}"
        pixels = os.urandom(self.pixel_bytes)
        data = self._data[: -self.pixel_bytes].replace(self._uid.encode(), uid.encode()) + pixels
        return Instance(uid, data, hashlib.sha256(pixels).hexdigest())

    def with_other_pixels(self, instance: Instance) -> Instance:
        """Other bytes under the same UID."""
        pixels = os.urandom(self.pixel_bytes)
        data = instance.data[: -self.pixel_bytes] + pixels
        return Instance(instance.sop_instance_uid, data, hashlib.sha256(pixels).hexdigest())

    def found_below(self, *folders: Path) -> set[str]:
        """The pixels' SHA-256 of every file in these folders and the folders in them."""
        found: set[str] = set()
        for folder in folders:
            for file in folder.rglob("*.dcm"):
                with suppress(FileNotFoundError):  # on its way from one folder to another
                    found.add(self.hash_of(file.read_bytes()))
        return found

    def hash_of(self, content: bytes) -> str:
        """The SHA-256 of the pixels at the end of a file."""
        return hashlib.sha256(content[-self.pixel_bytes :]).hexdigest()


class Senders:
    """Associations that send until they are cut off; each notes what was acknowledged.

    Args:
        count: associations at once, each in a thread of its own.
        each: instances that each of them sends, if nothing cuts it off.
    """

    def __init__(self, port: int, instances: Instances, count: int, each: int) -> None:
        self.acknowledged: list[Instance] = []
        batches = [[instances.another() for _ in range(each)] for _ in range(count)]
        self._port = port
        self._lock = threading.Lock()
        self._first = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(one,)) for one in batches]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(120)

    def wait_for_first(self) -> None:
        """Waits until an instance was acknowledged."""
        assert self._first.wait(60)

    def _send(self, batch: Iterable[Instance]) -> None:
        with suppress(OSError), RawSender(self._port) as sender:
            sender.associate(MRImageStorage)
            for instance in batch:
                if store(sender, instance) == StoreStatus.SUCCESS:
                    with self._lock:
                        self.acknowledged.append(instance)
                    self._first.set()
            sender.release()


def store(sender: RawSender, instance: Instance) -> int:
    """Sends an instance; the response's status."""
    uids = {"sop_class": MRImageStorage, "instance": instance.sop_instance_uid}
    sender.send(
        values(_CONTEXT, 3, command(C_STORE_RQ, **uids)) + values(_CONTEXT, 2, instance.data)
    )
    return sender.status()

"""The way of an instance through spool, registrar and store, in this process and at once."""

from __future__ import annotations

import datetime as dt
import time
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from sqlalchemy import Engine, select

from services.common.database import InstanceRow
from services.common.headers import scheme
from services.common.store import StudyStore
from services.dimse.commands import C_STORE_RQ, Command
from services.listener.door.messages import InstanceRefused, Stored, Told
from services.listener.door.part10 import digest_text
from services.listener.door.spool import Spool
from services.listener.door.statuses import StoreStatus
from services.listener.door.store import Facilities, Sender, StoreOperation
from services.listener.registering.arrivals import Offered, StoredInstance
from services.listener.registering.lost import LostImages
from services.listener.registering.quarantine import Quarantine
from services.listener.registering.registrar import Registrar

LISTENER_ID = "tested"
_SCHEME = scheme()


@dataclass(frozen=True)
class OfferedInstance:
    """A C-STORE request with its data set."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    peer: str
    data: bytes
    priority: str = "normal"

    @property
    def digest(self) -> str:
        """What is registered of its bytes."""
        return digest_text(zlib.crc32(self.data), len(self.data))


def offer(file: Path, **changes: Any) -> OfferedInstance:
    """A file as it would be sent, with changes to what the command says."""
    content = file.read_bytes()
    data = pydicom.dcmread(file, stop_before_pixels=True)
    start = 144 + int.from_bytes(content[140:144], "little")
    given: dict[str, Any] = {
        "sop_class_uid": str(data.SOPClassUID),
        "sop_instance_uid": str(data.SOPInstanceUID),
        "transfer_syntax_uid": str(data.file_meta.TransferSyntaxUID),
        "peer": "MR1",
        "data": content[start:],
    }
    return OfferedInstance(**{**given, **changes})


def registered(engine: Engine) -> set[str]:
    """The SOP instance UIDs that are registered."""
    with engine.connect() as connection:
        return set(connection.execute(select(InstanceRow.sop_instance_uid)).scalars())


def _present() -> dt.datetime:
    return dt.datetime.fromtimestamp(time.time(), dt.UTC)


class Reception:
    """Takes instances as a receiver does and waits until each is registered.

    Args:
        stored: called with the study's UID of each new instance.
    """

    def __init__(
        self,
        registrar: Registrar,
        spool: Spool,
        clock: Callable[[], dt.datetime],
        watermark_bytes: int,
    ) -> None:
        self.registrar = registrar
        self.spool = spool
        self._clock = clock
        self._facilities = Facilities(spool, _SCHEME, watermark_bytes, self._tell)
        self.refused: list[InstanceRefused] = []

    def receive(self, offered: OfferedInstance, *, wait: bool = True) -> StoreStatus:
        """Stores an instance and answers for it."""
        command = Command(C_STORE_RQ, 1, True, offered.sop_class_uid, offered.sop_instance_uid, "")
        sender = Sender(offered.peer, offered.peer, offered.priority)
        context = (offered.sop_class_uid, offered.transfer_syntax_uid)
        operation = StoreOperation(self._facilities, command, *context, sender)
        operation.append(memoryview(offered.data))
        status, _ = operation.finish()
        if wait:
            assert self.registrar.flush(20)
        return status

    def _tell(self, message: Told) -> None:
        if isinstance(message, Stored):
            offered = Offered.from_message(message)
            at = self._clock().timestamp()
            self.registrar.offer(replace(offered, file=replace(offered.file, received_at=at)))
        elif isinstance(message, InstanceRefused):
            self.refused.append(message)


@contextmanager
def opened_reception(
    engine: Engine,
    store: StudyStore,
    folder: Path,
    stored: Callable[[str], None] = lambda _: None,
    clock: Callable[[], dt.datetime] = _present,
    watermark_bytes: int = 0,
    quiet_period_s: Callable[[str], float] = lambda _: 5.0,
    conflicts: Callable[[str], str] = lambda _: "keep_first",
    lost: LostImages | None = None,
) -> Generator[Reception]:
    """A reception with a spool and a quarantine in `folder`."""

    def on_stored(instances: Sequence[StoredInstance]) -> None:
        for instance in instances:
            stored(instance.study_uid)

    quarantine = Quarantine(folder / "quarantine")
    spool = Spool(folder / "spool" / "door-0")
    registrar = Registrar(
        engine,
        store,
        quarantine,
        LISTENER_ID,
        on_stored,
        quiet_period_s=quiet_period_s,
        conflicts=conflicts,
        lost=lost,
    )
    try:
        with registrar:
            yield Reception(registrar, spool, clock, watermark_bytes)
    finally:
        spool.close()

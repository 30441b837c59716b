"""An instance between the spool and the store: offered, then decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.common.headers import InstanceHeader, Registration, scheme
from services.listener.door.messages import Stored
from services.listener.door.part10 import META_BYTES
from services.listener.door.spool import SpooledFile
from services.listener.registering.registry import Novelty, ReceivedInstance

_SCHEME = scheme()


@dataclass(frozen=True, slots=True)
class Offered:
    """An instance in a spool.

    Attributes:
        registration: the instance's head; None has the head read from the file (character sets
            beyond the door).
        peer: the peer's name in the settings; priority: the peer's.
        receiving: whether an association is sending the instance; else the spool held it.
    """

    file: SpooledFile
    registration: Registration | None
    peer: str
    priority: str = "normal"
    receiving: bool = False

    @classmethod
    def from_message(cls, stored: Stored) -> Offered:
        """From what a door says of an instance."""
        return cls(stored.file, _registration(stored), stored.peer, stored.priority, receiving=True)


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that was registered just now."""

    study_uid: str
    series_uid: str
    peer: str
    quiet_period_s: float


@dataclass(frozen=True, slots=True)
class Decided:
    """An instance whose row was decided; its file is to be brought where it belongs.

    Attributes:
        path: its file in the spool.
    """

    offered: Offered
    path: Path
    received: ReceivedInstance
    novelty: Novelty

    @property
    def uid(self) -> str:
        """The SOP instance UID."""
        return self.received.registration.header.sop_instance_uid

    @property
    def stored(self) -> StoredInstance:
        """What assembly hears of the instance."""
        header = self.received.registration.header
        quiet_period_s = self.received.quiet_period_s
        return StoredInstance(
            header.study_uid, header.series_uid, self.offered.peer, quiet_period_s
        )


def _registration(stored: Stored) -> Registration | None:
    """The records of a head that a door scanned; None where it left them to the library."""
    scanned = stored.scanned
    if scanned is None:
        return None
    meta, offset = stored.file.meta, scanned.pixel_offset
    header = InstanceHeader(
        sop_instance_uid=meta.sop_instance_uid,
        sop_class_uid=meta.sop_class_uid,
        series_uid=stored.series_uid,
        study_uid=stored.study_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        attributes=scanned.picked(_SCHEME.header),
        pixel_offset=None if offset is None else META_BYTES + offset,
        pixel_length=scanned.pixel_length,
        has_pixels=scanned.has_pixels,
    )
    return Registration(header, scanned.picked(_SCHEME.study), scanned.picked(_SCHEME.series))

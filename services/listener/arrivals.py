"""An instance between the spool and the store: offered, then decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.headers import InstanceHeader, Registration
from services.listener.door.part10 import META_BYTES
from services.listener.door.spool import SpooledFile
from services.listener.registry import Outcome, ReceivedInstance


@dataclass(frozen=True, slots=True)
class Offered:
    """An instance in a spool.

    Attributes:
        registration: its head; None has it read from the file (character sets beyond the door).
        peer: the peer's name in the settings; priority: the peer's.
    """

    file: SpooledFile
    registration: Registration | None
    peer: str
    priority: str = "normal"

    @classmethod
    def from_message(cls, told: dict[str, Any]) -> Offered:
        """From what a receiver tells of an instance."""
        file = SpooledFile.from_json(told["file"])
        return cls(file, registration_of(file, told["scanned"]), told["peer"], told["priority"])


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that was registered just now."""

    study_uid: str
    series_uid: str
    peer: str
    quiet_period_s: float


@dataclass(frozen=True, slots=True)
class Decided:
    """An instance whose row was decided; its file is to be brought where it belongs."""

    offered: Offered
    received: ReceivedInstance
    outcome: Outcome

    @property
    def uid(self) -> str:
        """Its SOP instance UID."""
        return self.received.registration.header.sop_instance_uid

    @property
    def path(self) -> Path:
        """Its file in the spool."""
        return Path(self.offered.file.path)

    @property
    def stored(self) -> StoredInstance:
        """What assembly hears of it."""
        header = self.received.registration.header
        quiet_period_s = self.received.quiet_period_s
        return StoredInstance(
            header.study_uid, header.series_uid, self.offered.peer, quiet_period_s
        )


def registration_of(file: SpooledFile, scanned: dict[str, Any]) -> Registration | None:
    """The records that a receiver scanned; None where it left them to the library."""
    records = scanned["records"]
    if records is None:
        return None
    uids, offset = scanned["uids"], scanned["pixel_offset"]
    header = InstanceHeader(
        sop_instance_uid=uids["SOPInstanceUID"],
        sop_class_uid=uids["SOPClassUID"],
        series_uid=uids["SeriesInstanceUID"],
        study_uid=uids["StudyInstanceUID"],
        transfer_syntax_uid=file.meta.transfer_syntax_uid,
        attributes=records["header"],
        pixel_offset=None if offset is None else META_BYTES + offset,
        pixel_length=scanned["pixel_length"],
    )
    return Registration(header, records["study"], records["series"])

"""The statuses with which a C-STORE is answered (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class StoreStatus(IntEnum):
    """What the sender is told about an instance."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


# What each means here; the conformance statement prints this table.
STATUS_MEANINGS: Mapping[StoreStatus, tuple[str, str]] = MappingProxyType(
    {
        StoreStatus.SUCCESS: (
            "Success",
            "The instance is on disk, synced and registered; or it was already; or another data "
            "set is registered under its UID, and it is on disk, synced, beside that one.",
        ),
        StoreStatus.PROCESSING_FAILURE: (
            "Processing failure",
            "The database did not take the registration. Sending again can help.",
        ),
        StoreStatus.OUT_OF_RESOURCES: (
            "Refused: out of resources",
            "The disk did not take the file. Sending again can help.",
        ),
        StoreStatus.DATA_SET_MISMATCH: (
            "Error: data set does not match SOP class",
            "The SOP class or instance UID in the data set is not the one in the command.",
        ),
        StoreStatus.CANNOT_UNDERSTAND: (
            "Error: cannot understand",
            "The data set is no DICOM in its transfer syntax, or lacks one of the four UIDs that "
            "identify it, or one of them is no UID.",
        ),
    }
)

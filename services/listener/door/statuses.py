"""The statuses with which a C-STORE is answered (PS3.4 B.2.3, PS3.7 C)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class StoreStatus(IntEnum):
    """What the sender is told about an instance."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    DUPLICATE_INSTANCE = 0x0111
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_MISMATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


# What each means here; the conformance statement prints this table.
STATUS_MEANINGS: Mapping[StoreStatus, tuple[str, str]] = MappingProxyType(
    {
        StoreStatus.SUCCESS: (
            "Success",
            "The instance is on disk, its data and its directory entry synced; it is registered "
            "within milliseconds. The same data set again is counted once; another one under its "
            "UID never replaces it and is kept beside it.",
        ),
        StoreStatus.PROCESSING_FAILURE: (
            "Processing failure",
            "The instance could not be processed. Sending again can help.",
        ),
        StoreStatus.DUPLICATE_INSTANCE: (
            "Failure: duplicate SOP Instance",
            "Other data are known under the SOP Instance UID, and the peer's policy "
            "(`listener.peers[].conflicts: refuse`) is to take none. Sending again cannot help.",
        ),
        StoreStatus.SOP_CLASS_NOT_SUPPORTED: (
            "Refused: SOP class not supported",
            "The presentation context was accepted for another SOP class than the command's.",
        ),
        StoreStatus.OUT_OF_RESOURCES: (
            "Refused: out of resources",
            "The disk is nearly full or did not take the file, or the instance is larger than "
            "`listener.max_instance_bytes`. The sender keeps its copy.",
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

"""The file that an instance becomes: preamble and our file meta information before its data set.

The data set itself is kept byte for byte as it was sent (PS3.10 7).
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from services.common.headers import HeaderError, Registration, read_registration
from services.common.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    sha256_hex,
)

_PREAMBLE = bytes(128) + b"DICM"  # PS3.10 7.1
# As long as an AE title can be (PS3.5 6.2, AE; trailing spaces mean nothing).
_AE_TITLE_LENGTH = 16
# File meta information begins with its own length: (0002,0000), UL, 4 bytes.
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What a file in the store tells of the instance in it.

    Attributes:
        data_digest: SHA-256 of the data set as sent.
        peer: the AE title it came from.
    """

    registration: Registration
    data_digest: str
    peer: str


def file_meta(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, peer: str
) -> bytes:
    """Preamble, prefix and file meta information for a data set received from `peer`.

    As long for every peer: where the pixels begin is registered once, and still right when
    another peer sends a lost file again.
    """
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    meta.SourceApplicationEntityTitle = peer.ljust(_AE_TITLE_LENGTH)
    buffer = DicomBytesIO()
    buffer.write(_PREAMBLE)
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()


def read_stored(file: bytes) -> StoredFile:
    """Reads back what was stored.

    Raises:
        HeaderError: the file is damaged, or none of ours.
    """
    registration = read_registration(file)
    if file[132:140] != _GROUP_LENGTH:
        raise HeaderError("The file's meta information does not begin with its length.")
    data_set_at = 144 + int.from_bytes(file[140:144], "little")
    head = pydicom.dcmread(io.BytesIO(file), stop_before_pixels=True)
    peer = str(head.file_meta.get("SourceApplicationEntityTitle") or "")
    return StoredFile(registration, sha256_hex(memoryview(file)[data_set_at:]), peer)

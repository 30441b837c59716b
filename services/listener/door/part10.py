"""The file that an instance becomes: preamble and our file meta information before its data set.

The data set itself is kept byte for byte as it was sent (PS3.10 7). All that stands before it is
`META_BYTES` long whoever sent it, so that it can be written last, and so that the pixels of an
instance lie at the same offset whichever peer sent it. Private information (PS3.10 7.1,
(0002,0102)) keeps the length and the CRC-32 of the data set: a file that a power cut tore apart
is told from a whole one. A CRC is enough for that, and with ISA-L's (the processor multiplies
polynomials) it costs a thirtieth of a SHA-256 on every byte that is received; where two data sets
have to be the same, their bytes are compared.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from isal.isal_zlib import crc32

from services.common.identity import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    derived_uid,
)

# A page of memory and a block of the file system: the data set begins with one, too.
META_BYTES = 4096

_PREAMBLE = bytes(128) + b"DICM"  # PS3.10 7.1
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2s2xI")
_SEAL = struct.Struct("<16sQI")
_SEAL_MAGIC = b"axial seal 1"
# Who defines our private information, (0002,0100).
_PRIVATE_CREATOR = derived_uid("private information", "seal")
_READ_BYTES = 1 << 20


class TornFileError(Exception):
    """A file is not what was sealed: cut off, changed, or never finished."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What the file meta information says of an instance.

    Attributes:
        peer: the sender's AE title (or a name that stands for it), up to 16 characters.
    """

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    peer: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A whole file: its meta information, and what its seal says of the data set."""

    meta: FileMeta
    data_bytes: int
    checksum: int

    @property
    def data_digest(self) -> str:
        """`digest_text` of the data set."""
        return digest_text(self.checksum, self.data_bytes)


def digest_text(checksum: int, data_bytes: int) -> str:
    """The CRC-32 and the length of a data set, as they are registered."""
    return f"{checksum:08x}-{data_bytes}"


def compose(meta: FileMeta, data_bytes: int, checksum: int) -> bytes:
    """Preamble, prefix and file meta information: `META_BYTES` bytes (PS3.10 table 7.1-1).

    Args:
        data_bytes: the length of the data set.
        checksum: its CRC-32.
    """
    elements = b"".join(
        (
            _LONG.pack(2, 0x0001, b"OB", 2) + b"\x00\x01",
            _text(0x0002, b"UI", meta.sop_class_uid),
            _text(0x0003, b"UI", meta.sop_instance_uid),
            _text(0x0010, b"UI", meta.transfer_syntax_uid),
            _text(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _text(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
            _text(0x0016, b"AE", meta.peer[:16]),
            _text(0x0100, b"UI", _PRIVATE_CREATOR),
        )
    )
    head = len(_PREAMBLE) + _SHORT.size + 4
    seal_bytes = META_BYTES - head - len(elements) - _LONG.size
    seal = _SEAL.pack(_SEAL_MAGIC, data_bytes, checksum).ljust(seal_bytes, b"\0")
    elements += _LONG.pack(2, 0x0102, b"OB", seal_bytes) + seal
    length = _SHORT.pack(2, 0x0000, b"UL", 4) + struct.pack("<I", len(elements))
    return _PREAMBLE + length + elements


def read_sealed(path: Path) -> Sealed:
    """Reads a file whole and proves that it is as the spool sealed it.

    Raises:
        TornFileError: the file is another one; the message says in what.
        OSError: the file cannot be read.
    """
    checksum = 0
    with path.open("rb", buffering=0) as file:
        meta, data_bytes, expected = _parse(file.read(META_BYTES))
        present = os.fstat(file.fileno()).st_size - META_BYTES
        if present != data_bytes:
            raise TornFileError(f"The data set has {present} of {data_bytes} bytes.")
        while chunk := file.read(_READ_BYTES):
            checksum = crc32(chunk, checksum)
    if checksum != expected:
        raise TornFileError("The data set is not the one that was sealed.")
    return Sealed(meta, data_bytes, expected)


def is_whole(path: Path, data_digest: str) -> bool:
    """Whether a file is as the spool sealed it, with a data set of that digest.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        return read_sealed(path).data_digest == data_digest
    except TornFileError:
        return False


def _parse(head: bytes) -> tuple[FileMeta, int, int]:
    if len(head) < META_BYTES or head[:132] != _PREAMBLE:
        raise TornFileError("The file was never finished: it has no file meta information.")
    values: dict[int, bytes] = {}
    at = len(_PREAMBLE)
    while at + _LONG.size <= META_BYTES:
        _, element, vr, length = _SHORT.unpack_from(head, at)
        at += _SHORT.size
        if vr == b"OB":
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        values[element] = head[at : at + length]
        at += length
    seal = values.get(0x0102, b"")
    if values.get(0x0100, b"").rstrip(b"\0") != _PRIVATE_CREATOR.encode() or len(seal) < _SEAL.size:
        raise TornFileError("The file has no seal of ours.")
    magic, data_bytes, checksum = _SEAL.unpack_from(seal)
    if magic.rstrip(b"\0") != _SEAL_MAGIC:
        raise TornFileError("The file has no seal of ours.")
    meta = FileMeta(
        *(_plain(values.get(element, b"")) for element in (0x0002, 0x0003, 0x0010, 0x0016))
    )
    return meta, data_bytes, checksum


def _text(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(2, element, vr, len(value)) + value


def _plain(value: bytes) -> str:
    return value.rstrip(b"\0 ").decode("ascii", "replace")

"""Which transfer syntaxes this installation reads, and how."""

from __future__ import annotations

from functools import cache

from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

# Pixels of these lie in the file as they are: they are read by offset, without a decoder.
NATIVE_LITTLE_ENDIAN = frozenset({str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)})


@cache
def readable_transfer_syntaxes() -> frozenset[str]:
    """UIDs of the transfer syntaxes whose pixels can be read here: native and decodable ones."""
    return frozenset(str(uid) for uid in AllTransferSyntaxes if _decodable(uid))


def transfer_syntax_name(uid: str) -> str:
    """A transfer syntax's name in PS3.6 table A-1; the UID where the table lacks the syntax."""
    return UID(uid).name


def _decodable(uid: UID) -> bool:
    try:
        return get_decoder(uid).is_available
    except NotImplementedError:
        return False

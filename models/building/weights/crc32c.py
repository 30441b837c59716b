"""The checksum of TensorFlow's and LevelDB's tables (CRC-32C, Castagnoli; RFC 3720, B.4)."""

from __future__ import annotations

__all__ = ["masked_crc32c"]

_POLYNOMIAL = 0x82F63B78
_MASK = 0xA282EAD8
_WORD = 0xFFFFFFFF


def masked_crc32c(content: bytes) -> int:
    """Return the checksum as these files store it: rotated and shifted. About 10 MB a second."""
    crc, table = _WORD, _TABLE
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= _WORD
    return (((crc >> 15) | (crc << 17)) + _MASK) & _WORD


def _row(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_row(byte) for byte in range(256))

"""Writes TensorFlow 1 checkpoints as its saver does, small ones, for tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.building.weights.crc32c import masked_crc32c

MAGIC = bytes.fromhex("57fb808b247547db")
TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def write_checkpoint(prefix: Path, variables: Mapping[str, NDArray[np.generic]]) -> Path:
    """Writes ``<prefix>.index`` and its one data file; returns the index."""
    data = b""
    entries = [(b"", _field(1, 1) + _field(2, 0))]
    for name, values in sorted(variables.items()):
        content = values.tobytes()
        entries.append((name.encode(), _entry(values, len(data), content)))
        data += content
    prefix.with_suffix(".data-00000-of-00001").write_bytes(data)
    index = prefix.with_suffix(".index")
    index.write_bytes(table([entries]))
    return index


def table(blocks: list[list[tuple[bytes, bytes]]], kind: int = 0) -> bytes:
    """A LevelDB table of blocks of names and values; `kind`: the compression that it claims."""
    content, handles = b"", list[tuple[bytes, bytes]]()
    for entries in blocks:
        handle, content = _put(content, _block(entries), kind)
        handles.append((entries[-1][0] + b"~", handle))
    meta, content = _put(content, _block([]), 0)
    index, content = _put(content, _block(handles), 0)
    return content + (meta + index).ljust(40, b"\0") + MAGIC


def _put(content: bytes, block: bytes, kind: int) -> tuple[bytes, bytes]:
    handle = varint(len(content)) + varint(len(block))
    body = block + bytes([kind])
    return handle, content + body + struct.pack("<I", masked_crc32c(body))


def _block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """Names share what they begin with, as LevelDB has it."""
    content, before = b"", b""
    for name, value in entries:
        shared = 0
        while shared < min(len(before), len(name)) and before[shared] == name[shared]:
            shared += 1
        sizes = varint(shared) + varint(len(name) - shared) + varint(len(value))
        content += sizes + name[shared:] + value
        before = name
    return content + struct.pack("<II", 0, 1)


def _entry(values: NDArray[np.generic], offset: int, content: bytes) -> bytes:
    sizes = b"".join(_bytes(2, _field(1, size)) for size in values.shape)
    where = _field(1, TYPES[values.dtype.name]) + _bytes(2, sizes) + _field(4, offset)
    crc = varint(6 << 3 | 5) + struct.pack("<I", masked_crc32c(content))
    return where + _field(5, len(content)) + crc


def _field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """A number of 7 bits a byte, low first."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])

"""TensorFlow 1 checkpoints (`NAME.index`, `NAME.data-00000-of-00001`), without TensorFlow.

The index is a LevelDB table: blocks of prefix-compressed names, each with a checksum, each name
with a small protocol buffer (BundleEntryProto) that says where its array lies. Sources:
tensorflow/core/lib/io/format.cc, core/protobuf/tensor_bundle.proto. Every length is checked
against the file before it is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.building.errors import WeightsError
from models.building.weights.crc32c import masked_crc32c

__all__ = ["read_tensorflow_checkpoint"]

_MAGIC: Final = bytes.fromhex("57fb808b247547db")
_FOOTER: Final = 48
# Compression byte and checksum after every block.
_TRAILER: Final = 5
_LARGEST_INDEX: Final = 64 << 20
_LARGEST_DATA: Final = 8 << 30
_LARGEST_RANK: Final = 8
# DataType of TensorFlow: float, double, int32, int64.
_DTYPES: Final = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5

Message = list[tuple[int, int | bytes]]


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where an array lies: `offset` and `size` in bytes, in file `shard`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int


def read_tensorflow_checkpoint(index: Path) -> dict[str, torch.Tensor]:
    """Read every variable of a checkpoint, by its name, as it was saved (channels last).

    Args:
        index: `NAME.index`; the data lie beside it.

    Raises:
        WeightsError: a file is missing, damaged (checksums), or of a kind that is not read.
    """
    shards, entries = _read_index(index)
    files = [_data_file(index, shard, shards) for shard in range(shards)]
    return {entry.name: _array(files[entry.shard], entry) for entry in entries}


def _data_file(index: Path, shard: int, shards: int) -> Path:
    file = index.with_suffix(f".data-{shard:05d}-of-{shards:05d}")
    if not file.is_file():
        raise WeightsError(f"{file} is missing; {index.name} says that it is there. Fetch it too.")
    if file.stat().st_size > _LARGEST_DATA:
        raise WeightsError(f"{file} has over {_LARGEST_DATA >> 30} GiB, more than is read.")
    return file


def _array(file: Path, entry: _Entry) -> torch.Tensor:
    with file.open("rb") as stream:
        stream.seek(entry.offset)
        content = stream.read(entry.size)
    if len(content) != entry.size:
        raise WeightsError(f"{file} ends before the variable {entry.name}. Fetch it again.")
    if masked_crc32c(content) != entry.crc:
        raise WeightsError(
            f"{file}: the variable {entry.name} is damaged: its checksum is not the index's. "
            "Fetch it again."
        )
    found = np.frombuffer(content, entry.dtype).reshape(entry.shape)
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("=")))


def _read_index(file: Path) -> tuple[int, list[_Entry]]:
    """Return the number of data files, and every variable."""
    try:
        size = file.stat().st_size
        if size > _LARGEST_INDEX:
            raise WeightsError(f"{file} has {size} bytes, more than an index is read with.")
        content = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"{file} cannot be read ({error}).") from error
    if len(content) < _FOOTER or content[-len(_MAGIC) :] != _MAGIC:
        raise WeightsError(f"{file} is no index of a TensorFlow checkpoint. Fetch it again.")
    try:
        return _parsed(content)
    except (IndexError, ValueError, UnicodeDecodeError, struct.error) as error:
        raise WeightsError(f"{file} is damaged ({error}). Fetch it again.") from error


def _parsed(content: bytes) -> tuple[int, list[_Entry]]:
    footer = content[-_FOOTER:]
    place = 0
    for _ in range(2):  # The index of meta blocks, which nobody uses.
        _, place = _varint(footer, place)
    start, place = _varint(footer, place)
    length, place = _varint(footer, place)
    shards, entries = 0, list[_Entry]()
    for _, handle in _block(content, start, length):
        start, place = _varint(handle, 0)
        length, place = _varint(handle, place)
        for name, value in _block(content, start, length):
            if name:
                entries.append(_entry(name.decode(), value))
            else:
                shards = _header(value)
    for entry in entries:
        if not 0 <= entry.shard < shards:
            raise ValueError(f"{entry.name} lies in file {entry.shard} of {shards}")
    return shards, entries


def _block(content: bytes, start: int, length: int) -> Generator[tuple[bytes, bytes]]:
    """Yield the names and values of a block."""
    end = start + length
    if end + _TRAILER > len(content) - _FOOTER:
        raise ValueError(f"a block at {start} of {length} bytes is not in the file")
    kind, crc = struct.unpack("<BI", content[end : end + _TRAILER])
    if masked_crc32c(content[start : end + 1]) != crc:
        raise ValueError(f"the checksum of the block at {start} is wrong")
    if kind:
        raise ValueError(f"the block at {start} is compressed, which is not read")
    block = content[start:end]
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ValueError(f"the block at {start} has {restarts} restarts")
    place, name = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        size, place = _varint(block, place)
        if shared > len(name) or place + fresh + size > end:
            raise ValueError(f"a name in the block at {start} is not in it")
        name = name[:shared] + block[place : place + fresh]
        place += fresh
        yield name, block[place : place + size]
        place += size


def _header(value: bytes) -> int:
    """Return the number of data files (BundleHeaderProto)."""
    fields = dict(_fields(value))
    if fields.get(2, 0) != 0:
        raise ValueError("numbers are stored with the high byte first, which is not read")
    return _whole(fields, 1)


def _entry(name: str, value: bytes) -> _Entry:
    """Return where a variable lies (BundleEntryProto)."""
    message = _fields(value)
    fields = dict(message)
    if any(number == 7 for number, _ in message):
        raise ValueError(f"{name} is stored in slices, which is not read")
    dtype = _DTYPES.get(_whole(fields, 1))
    if dtype is None:
        raise ValueError(f"{name} is of type {_whole(fields, 1)}, which is not read")
    shape = _shape(fields.get(2, b""))
    shard, offset, size, crc = (_whole(fields, number) for number in (3, 4, 5, 6))
    entry = _Entry(name, dtype, shape, shard, offset, size, crc)
    if entry.size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"{name} has {entry.size} bytes and the shape {list(shape)}")
    return entry


def _shape(value: int | bytes) -> tuple[int, ...]:
    """Return the sizes (TensorShapeProto)."""
    if not isinstance(value, bytes):
        raise ValueError("a shape is no message")
    sizes = [
        _whole(dict(_fields(one)), 1)
        for number, one in _fields(value)
        if number == 2 and isinstance(one, bytes)
    ]
    if len(sizes) > _LARGEST_RANK:
        raise ValueError(f"a variable has {len(sizes)} axes")
    return tuple(sizes)


def _whole(fields: dict[int, int | bytes], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise ValueError(f"field {number} is no number")
    return value


def _fields(message: bytes) -> Message:
    """Return the fields of a protocol buffer: number, and a number or bytes."""
    found: Message = []
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == _VARINT:
            number, place = _varint(message, place)
            found.append((tag >> 3, number))
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_FOUR, _EIGHT):
            size = 4 if kind == _FOUR else 8
        else:
            raise ValueError(f"a field is of kind {kind}")
        if place + size > len(message):
            raise ValueError("a field is longer than its message")
        value = message[place : place + size]
        found.append((tag >> 3, value if kind == _BYTES else int.from_bytes(value, "little")))
        place += size
    return found


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, low first, and the place behind it."""
    found = 0
    for shift in range(0, 64, 7):
        byte = content[place]
        place += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, place
    raise ValueError("a number is longer than 64 bits")

"""Messages as plain values and back: the one place that knows how they go between processes.

A message is its class's name and its fields by name. A receiver that was started after an upgrade
may be newer than the main process: fields that are not known here are left out, fields that did not
come have their defaults, and what cannot be read at all becomes `Unknown`, for the log.

Cost: 4 us to write and 6 us to read an instance's message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, get_args

from services.common.header_scan import Scanned
from services.listener.door.config import DoorConfig
from services.listener.door.messages import Begin, Message, Stored, Unknown
from services.listener.door.part10 import FileMeta
from services.listener.door.spool import SpooledFile

Plain = tuple[str, Mapping[str, Any]]

_CLASSES: tuple[type[Message], ...] = get_args(Message)
_BY_NAME = {kind.__name__: kind for kind in _CLASSES}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _CLASSES}


def encode(message: Message) -> Plain:
    """A message as values that `marshal` writes."""
    kind = type(message)
    values = {name: getattr(message, name) for name in _FIELDS[kind]}
    if isinstance(message, Stored):
        values["file"] = _file_as_plain(message.file)
        values["scanned"] = None if message.scanned is None else _head_as_plain(message.scanned)
    elif isinstance(message, Begin):
        values["config"] = message.config.as_json()
    return kind.__name__, values


def decode(plain: Plain) -> Message:
    """Back from `encode`; never raises."""
    name, values = plain
    kind = _BY_NAME.get(name)
    if kind is None:
        return Unknown(name)
    try:
        known = {field: values[field] for field in _FIELDS[kind] if field in values}
        for field, read in _READ.get(kind, {}).items():
            known[field] = read(known[field])
        return kind(**known)
    except (TypeError, ValueError, KeyError):
        return Unknown(name)


def _file_as_plain(file: SpooledFile) -> tuple[Any, ...]:
    meta = file.meta
    written = (
        meta.sop_class_uid,
        meta.sop_instance_uid,
        meta.transfer_syntax_uid,
        meta.peer,
    )
    return file.path, written, file.data_bytes, file.data_digest, file.received_at


def _read_file(plain: tuple[Any, ...]) -> SpooledFile:
    path, meta, data_bytes, data_digest, received_at = plain
    return SpooledFile(path, FileMeta(*meta), data_bytes, data_digest, received_at)


def _head_as_plain(head: Scanned) -> tuple[Any, ...]:
    return (
        head.values,
        head.pixel_offset,
        head.pixel_length,
        head.needs_library,
        head.has_pixels,
    )


def _read_head(plain: tuple[Any, ...] | None) -> Scanned | None:
    return None if plain is None else Scanned(*plain)


# The fields that are values of our own.
_READ: Mapping[type[Message], Mapping[str, Callable[[Any], Any]]] = {
    Stored: {"file": _read_file, "scanned": _read_head},
    Begin: {"config": DoorConfig.from_json},
}

"""What is kept beside an instance: other bytes that came under its UID, or lay in its place."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.common.identity import hashed
from services.common.store import ObjectMissing, StudyStore, conflict_key
from services.common.telemetry import get_logger
from services.listener.door.part10 import META_BYTES

_READ_AT_ONCE = 1 << 20

_log = get_logger("listener")


def content_digest(file: Path, transfer_syntax_uid: str) -> str:
    """The SHA-256 of an instance's data set and its syntax: instances that are kept beside one
    another are known by all of their bytes, whoever sent them.

    Args:
        file: sealed as the spool does.
        transfer_syntax_uid: of the data set.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256(transfer_syntax_uid.encode())
    with file.open("rb") as opened:
        opened.seek(META_BYTES)
        while chunk := opened.read(_READ_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def keep_displaced(store: StudyStore, sop_instance_uid: str, key: str) -> None:
    """Keeps a copy of what lies under a key that another object is to have.

    Raises:
        StoreError: the store refused.
    """
    try:
        content = store.read(key)
    except ObjectMissing:
        return
    store.put(conflict_key(sop_instance_uid, hashlib.sha256(content).hexdigest()), [content])
    _log.warning("object_displaced", instance_uid_hash=hashed(sop_instance_uid))

"""The files of instances that lie in the study store."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from services.common.fates import Refusal
from services.common.headers import InstanceHeader
from services.common.store import StudyStore, instance_key
from services.imaging.frames import Locate
from services.imaging.kinds import image_number


@contextmanager
def stored_files(store: StudyStore, headers: Sequence[InstanceHeader]) -> Generator[Locate]:
    """Finds the files of `headers` while the context is open.

    Raises:
        ObjectMissing: a file is not in the store (see `missing_under`).
        StoreError: a file cannot be read.
    """
    keys = {header.sop_instance_uid: key_of(header) for header in headers}
    with store.local(list(keys.values())) as files:
        yield lambda header: files[keys[header.sop_instance_uid]]


def key_of(header: InstanceHeader) -> str:
    """Where the listener put an instance."""
    return instance_key(header.study_uid, header.series_uid, header.sop_instance_uid)


def source_missing(header: InstanceHeader) -> Refusal:
    """Reason ``source_missing``, of an instance whose file is not there."""
    values = {"instance": image_number(header), "instance_uid": header.sop_instance_uid}
    return Refusal("source_missing", values)


def missing_under(headers: Sequence[InstanceHeader], key: str) -> Refusal:
    """`source_missing` of the instance that belongs under `key`."""
    return source_missing(next(header for header in headers if key_of(header) == key))

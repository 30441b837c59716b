"""The keys of the study store: what lies where."""

from __future__ import annotations

import re

from services.common.identity import is_uid
from services.common.store.errors import StoreError

_DIGEST = re.compile(r"[0-9a-f]{64}")


def instance_key(study_uid: str, series_uid: str, sop_instance_uid: str) -> str:
    """The key of a received instance.

    Raises:
        StoreError: one of the three is no UID and must not become a path.
    """
    for uid in (study_uid, series_uid, sop_instance_uid):
        if not is_uid(uid):
            raise StoreError(f"'{uid[:70]}' is no UID; PS3.5 9.1 allows digits and dots.")
    return f"studies/{study_uid}/{series_uid}/{sop_instance_uid}.dcm"


def job_key(job_uid: str, name: str) -> str:
    """The key of something a job made: its labels, its results."""
    return f"jobs/{job_uid}/{name}"


def is_of_job(key: str, job_uid: str) -> bool:
    """Whether a key lies below a job: what a request names must be the matter of its job."""
    prefix = f"jobs/{job_uid}/"
    if not is_uid(job_uid) or not key.startswith(prefix):
        return False
    try:
        return len(segments(key)) > len(segments(prefix[:-1]))
    except StoreError:
        return False


def manifest_key(digest: str) -> str:
    """The key of the manifest of a model's build.

    Args:
        digest: of the build, 64 hexadecimal digits.

    Raises:
        StoreError: the text is no digest and must not become a path.
    """
    if _DIGEST.fullmatch(digest) is None:
        raise StoreError(f"'{digest[:70]}' is no digest of a build (64 hexadecimal digits).")
    return f"models/{digest}/manifest.yaml"


def conflict_key(sop_instance_uid: str, data_digest: str) -> str:
    """The key of other bytes that came under the UID of a registered instance."""
    return f"conflicts/{sop_instance_uid}/{data_digest}.dcm"


def parent_of(key: str) -> str:
    """What a key lies in: an instance's series, a result's job; "" at the root."""
    return key.rpartition("/")[0]


def segments(key: str) -> list[str]:
    """The parts of a key.

    Raises:
        StoreError: the text is no key: as a path it would leave the store, or name a file of
            the store's own.
    """
    parts = key.split("/")
    if not key or any(part.startswith(".") or not part or "\0" in part for part in parts):
        raise StoreError(f"'{key}' is no key of the study store.")
    return parts

"""UIDs and digests.

Every UID we make is ``2.25.`` followed by a UUID as an integer (PS3.5 B.2), and the UUID is a
version-5 UUID over what the object is: the same work twice makes the same objects.
"""

from __future__ import annotations

import hashlib
import re
import uuid

# The name space of Axial's UUIDv5: itself the UUIDv5 of a URL-like name, so that it can be
# recomputed. It must never change: UIDs of delivered objects derive from it.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "axial:identity:v1")

# Implementation Class UID and Version Name (PS3.7 D.3.3.2).
IMPLEMENTATION_CLASS_UID = f"2.25.{uuid.uuid5(NAMESPACE, 'implementation').int}"
IMPLEMENTATION_VERSION_NAME = "AXIAL_0_1"

_UID = re.compile(r"^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+$")
_UID_OF_THE_FIELD = re.compile(r"^[0-9]+(\.[0-9]+)+$")


def derived_uid(*parts: str | int) -> str:
    """The UID of the thing that `parts` describe; equal parts give the equal UID."""
    name = "\x1f".join(str(part) for part in parts)
    return f"2.25.{uuid.uuid5(NAMESPACE, name).int}"


def is_uid(text: str) -> bool:
    """Whether `text` may stand as a UID in a path (PS3.5 9.1, leading zeros forgiven).

    Real systems send components with leading zeros; nothing but digits and dots may pass,
    because store keys are made of it.
    """
    return 0 < len(text) <= 64 and _UID_OF_THE_FIELD.fullmatch(text) is not None


def is_strict_uid(text: str) -> bool:
    """Whether `text` is a UID by the letter of PS3.5 9.1."""
    return 0 < len(text) <= 64 and _UID.fullmatch(text) is not None


def revision_workflow_id(study_uid: str, revision: int) -> str:
    """The id of the durable workflow of a revision."""
    return f"revision:{study_uid}:{revision}"


def job_uid(study_uid: str, revision: int, model_digest: str, selection_digest: str) -> str:
    """The UID of one model's work on one selection of one revision."""
    return derived_uid("job", study_uid, revision, model_digest, selection_digest)


def result_uid(job: str, kind: str, part: str) -> str:
    """The UID of an object made by a job: its SOP instance, series, tracking or device UID."""
    return derived_uid("result", job, kind, part)


def hashed(uid: str) -> str:
    """A short stand-in for a UID, for logs and metrics that may leave the site."""
    return hashlib.sha256(uid.encode()).hexdigest()[:12]


def sha256_hex(*chunks: bytes | memoryview) -> str:
    """SHA-256 over the chunks, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()

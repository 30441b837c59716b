"""The study store: what was received and what was made of it, by key.

Keys are relative paths of UIDs (`instance_key`, `job_key`). A `StudyStore` lies in a folder
(`folder`) or in S3 (`s3`); rooms see the same operations on both. An object is complete, durable
and findable when a put returns, and is replaced only as a whole. What needs a file gets one from
`StudyStore.local`: in a folder the object itself, from S3 a copy in a bounded cache (`cache`).
"""

from services.common.store.errors import ObjectDiffers, ObjectMissing, StoreError
from services.common.store.keys import (
    conflict_key,
    instance_key,
    is_of_job,
    job_key,
    manifest_key,
    parent_of,
)
from services.common.store.letting_go import Copy, FileCopy, NoOtherCopy, let_go
from services.common.store.objects import Objects, StoredObject
from services.common.store.opening import open_store
from services.common.store.study_store import StudyStore

__all__ = [
    "Copy",
    "FileCopy",
    "NoOtherCopy",
    "ObjectDiffers",
    "ObjectMissing",
    "Objects",
    "StoreError",
    "StoredObject",
    "StudyStore",
    "conflict_key",
    "instance_key",
    "is_of_job",
    "job_key",
    "let_go",
    "manifest_key",
    "open_store",
    "parent_of",
]

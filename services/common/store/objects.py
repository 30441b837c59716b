"""What a place has to do to be a study store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An entry of a listing.

    Attributes:
        modified_at: when the object was put, in UTC.
    """

    key: str
    size_bytes: int
    modified_at: dt.datetime


class Objects(Protocol):
    """A folder or a bucket; may be used from several threads. See `StudyStore` for the meaning."""

    def put(self, key: str, chunks: Iterable[bytes | memoryview]) -> int: ...

    def put_files(self, files: Sequence[tuple[str, Path]], *, replace: bool) -> None: ...

    def read(self, key: str) -> bytes: ...

    def size(self, key: str) -> int | None: ...

    def list(self, prefix: str) -> Iterator[StoredObject]: ...

    def delete(self, keys: Sequence[str]) -> None: ...

    def tidy(self, keys: Sequence[str]) -> None: ...

    def local(self, keys: Sequence[str]) -> AbstractContextManager[Mapping[str, Path]]: ...

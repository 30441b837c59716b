"""The study store in S3, through the object library.

A request that does not get through is tried again with growing pauses and jitter, and each has a
deadline; what fails then is a retryable `StoreError`. Bodies are part of the request's signature:
the server takes no object that was damaged on its way.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from services.common.store.cache import Cache
from services.common.store.errors import ObjectDiffers, ObjectMissing, StoreError
from services.common.store.keys import parent_of, segments
from services.common.store.letting_go import let_go
from services.common.store.objects import StoredObject
from services.common.telemetry import get_logger

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import S3Config

_log = get_logger("common")
_T = TypeVar("_T")

# Up to this size an object is sent in one request, which the server refuses where the key is
# taken; the request's body is held in memory. Larger ones are sent in parts.
_ONE_REQUEST_BYTES = 16 << 20
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
_READ_AT_ONCE = 4 << 20
_ATTEMPTS = 5
_FIRST_PAUSE = dt.timedelta(milliseconds=100)
_LONGEST_PAUSE = dt.timedelta(seconds=5)
_CONNECT_WITHIN_S = 5
# A server that keeps sending a large object is not given up before this.
_LONGEST_REQUEST_S = 900


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects lie.

    Attributes:
        prefix: what our keys begin with there; may be empty.
        endpoint: URL of the server; None for the provider's own.
        credentials: access key id and secret; None to take the environment's or the machine's.
        timeout_s: how long the server may be silent within a request.
        transfers: objects on their way at once.
    """

    name: str
    prefix: str
    endpoint: str | None
    region: str
    credentials: tuple[str, str] | None
    timeout_s: float
    transfers: int

    def __repr__(self) -> str:
        return f"s3://{self.name}/{self.prefix}"  # never the credentials


@dataclass(frozen=True, slots=True)
class _Confirmed:
    """An object that the server has confirmed, or whose bytes were read: a `Copy` of a file.

    Attributes:
        e_tag: that the server gave it; None where its bytes were compared.
    """

    place: S3
    key: str
    e_tag: str | None

    def stands_for(self, file: Path) -> bool:
        found = self.place.version(self.key)
        if found is None or found[0] != file.stat().st_size:
            return False
        return self.e_tag is None or found[1] is None or self.e_tag == found[1]


class S3:
    """Objects in a bucket; copies of those that are needed as files in a cache."""

    def __init__(self, bucket: Bucket, cache: Cache) -> None:
        self._client = _open(bucket)
        self._cache = cache
        self._pool = ThreadPoolExecutor(bucket.transfers, thread_name_prefix="s3")

    def put(self, key: str, chunks: Iterable[bytes | memoryview]) -> int:
        path = _path(key)
        content = b"".join(chunks)
        _answered(
            "write",
            key,
            lambda: obstore.put(
                self._client,
                path,
                content,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            ),
        )
        return len(content)

    def put_files(self, files: Sequence[tuple[str, Path]], *, replace: bool) -> None:
        for key, _ in files:
            segments(key)

        problems: list[StoreError] = []

        def put(item: tuple[str, Path]) -> None:
            if any(problem.retryable for problem in problems):
                return  # the server is away: not one deadline after another
            try:
                self._put_file(*item, replace=replace)
            except StoreError as error:
                problems.append(error)
            except (BaseError, OSError) as error:
                problems.append(_refused("take", item[0], error))

        list(self._pool.map(put, files))
        if problems:
            raise max(problems, key=lambda problem: problem.retryable)

    def read(self, key: str) -> bytes:
        path = _path(key)
        return _answered("read", key, lambda: bytes(obstore.get(self._client, path).bytes()))

    def size(self, key: str) -> int | None:
        path = _path(key)
        try:
            return _answered("look at", key, lambda: obstore.head(self._client, path)["size"])
        except ObjectMissing:
            return None

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for found in self._metas(prefix):
            yield StoredObject(found["path"], found["size"], found["last_modified"])

    def delete(self, keys: Sequence[str]) -> None:
        paths = [_path(key) for key in keys]
        if paths:
            _answered("delete", paths[0], lambda: obstore.delete(self._client, paths))

    def tidy(self, keys: Sequence[str]) -> None:
        """Nothing: a bucket has no folders."""

    @contextmanager
    def local(self, keys: Sequence[str]) -> Generator[Mapping[str, Path]]:
        groups: dict[str, list[str]] = {}
        for key in dict.fromkeys(keys):
            segments(key)
            groups.setdefault(parent_of(key), []).append(key)
        with self._cache.hold(groups) as folders:
            paths: dict[str, Path] = {}
            wanted: list[tuple[ObjectMeta, Path]] = []
            for group, members in groups.items():
                for meta in self._present(group, members):
                    # Under its version: an object that was replaced is another file.
                    copy = folders[group] / f"{_version(meta)}.{meta['path'].rpartition('/')[2]}"
                    paths[meta["path"]] = copy
                    if not copy.exists():
                        wanted.append((meta, copy))
            # Consumed as a whole, so that the first problem is raised here.
            list(self._pool.map(lambda item: self._fetch(*item), wanted))
            if wanted:
                self._cache.trim()
            yield paths

    def _put_file(self, key: str, file: Path, *, replace: bool) -> None:
        size = _file_size(key, file)
        one_request = size <= _ONE_REQUEST_BYTES
        e_tag: str | None = None
        try:
            if not replace and not one_request and self.size(key) is not None:
                raise AlreadyExistsError  # parts cannot be sent on this condition
            confirmed = obstore.put(
                self._client,
                key,
                file,
                mode=None if replace or not one_request else "create",
                use_multipart=not one_request,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
        except AlreadyExistsError:
            if not self._holds(key, file, size):
                raise ObjectDiffers(key) from None
        else:
            e_tag = confirmed["e_tag"]
        let_go(file, _Confirmed(self, key, e_tag))

    def version(self, key: str) -> tuple[int, str | None] | None:
        """Bytes and entity tag of the object under `key`; None where there is none."""
        try:
            meta = _answered("look at", key, lambda: obstore.head(self._client, key))
        except ObjectMissing:
            return None
        return meta["size"], meta["e_tag"]

    def _holds(self, key: str, file: Path, size: int) -> bool:
        """Whether the object has the file's bytes: an upload whose answer was lost has."""
        if self.size(key) != size:
            return False
        with file.open("rb") as own:
            stream = _answered("read", key, lambda: obstore.get(self._client, key).stream())
            return all(own.read(len(chunk)) == bytes(chunk) for chunk in stream)

    def _present(self, group: str, keys: Sequence[str]) -> list[ObjectMeta]:
        if len(keys) == 1:
            return [_answered("find", keys[0], lambda: obstore.head(self._client, keys[0]))]
        listed = {meta["path"]: meta for meta in self._metas(group)}
        missing = next((key for key in keys if key not in listed), None)
        if missing is not None:
            raise ObjectMissing(missing)
        return [listed[key] for key in keys]

    def _metas(self, prefix: str) -> Iterator[ObjectMeta]:
        pages = iter(obstore.list(self._client, prefix or None))
        while page := _answered("list", prefix, lambda: next(pages, None)):
            yield from page

    def _fetch(self, meta: ObjectMeta, copy: Path) -> None:
        key = meta["path"]
        temporary = copy.with_name(f".{uuid.uuid4().hex}.part")

        def read() -> int:
            with temporary.open("wb") as file:
                stream = obstore.get(self._client, key).stream(_READ_AT_ONCE)
                return sum(file.write(chunk) for chunk in stream)

        try:
            size = _answered("read", key, read)
            if size != meta["size"]:
                raise StoreError(
                    f"The store sent {size} of {meta['size']} bytes of {key}.", retryable=True
                )
            temporary.rename(copy)
        finally:
            temporary.unlink(missing_ok=True)


def _open(bucket: Bucket) -> S3Store:
    place: S3Config = {"region": bucket.region}
    if bucket.endpoint is not None:
        place["endpoint"] = bucket.endpoint
    if bucket.credentials is not None:
        place["access_key_id"], place["secret_access_key"] = bucket.credentials
    try:
        return S3Store(
            bucket.name,
            prefix=bucket.prefix or None,
            config=place,
            client_options={
                "allow_http": (bucket.endpoint or "").startswith("http://"),
                "connect_timeout": dt.timedelta(seconds=_CONNECT_WITHIN_S),
                "read_timeout": dt.timedelta(seconds=bucket.timeout_s),
                "timeout": dt.timedelta(seconds=_LONGEST_REQUEST_S),
            },
            retry_config={
                "max_retries": _ATTEMPTS - 1,
                "retry_timeout": dt.timedelta(seconds=bucket.timeout_s),
                "backoff": {
                    "init_backoff": _FIRST_PAUSE,
                    "max_backoff": _LONGEST_PAUSE,
                    "base": 2,
                },
            },
        )
    except BaseError as error:
        _log.error("bucket_not_opened", kind=type(error).__name__)
        raise StoreError(
            f"{bucket!r} cannot be opened: its settings are none that the client takes."
        ) from error


def _path(key: str) -> str:
    return "/".join(segments(key))


def _version(meta: ObjectMeta) -> str:
    version = meta["e_tag"] or f"{meta['last_modified'].isoformat()} {meta['size']}"
    return hashlib.sha256(version.encode()).hexdigest()[:16]


def _file_size(key: str, file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise _refused("take", key, error) from error


def _answered(verb: str, key: str, ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except FileNotFoundError as error:  # the library's answer for a key that is not there
        raise ObjectMissing(key) from error
    except (BaseError, OSError) as error:
        raise _refused(verb, key, error) from error


def _refused(verb: str, key: str, error: Exception) -> StoreError:
    # The library's own text quotes the request: addresses, and keys with the prefix.
    if isinstance(error, UnauthenticatedError | PermissionDeniedError):
        problem = "the server does not accept the credentials"
    elif isinstance(error, OSError):
        problem = error.strerror or "its file does not open"
    else:
        _log.warning("store_answer_not_understood", verb=verb, kind=type(error).__name__)
        problem = "the server does not answer as it must"
    return StoreError(f"The store could not {verb} {key}: {problem}.", retryable=True)

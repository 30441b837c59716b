"""The study store as the rooms see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from services.common.store.errors import StoreError
from services.common.store.folder import Folder
from services.common.store.objects import Objects, StoredObject


class StudyStore:
    """Objects by key, in a folder or in S3. May be used from several threads.

    Args:
        place: a folder, made when missing, or another place for objects.

    Every operation may raise a `StoreError`: retryable where the place may answer later.
    """

    def __init__(self, place: Path | Objects) -> None:
        self._objects: Objects = Folder(place) if isinstance(place, Path) else place

    @property
    def folder(self) -> Path | None:
        """The folder that the store lies in; None where the store lies in no folder."""
        return self._objects.root if isinstance(self._objects, Folder) else None

    @property
    def root(self) -> Path:
        """The folder that the store lies in.

        Raises:
            StoreError: the store lies in no folder.
        """
        if self.folder is None:
            raise StoreError("The study store lies in no folder.")
        return self.folder

    def path(self, key: str) -> Path:
        """The file that an object of a store in a folder is (or would be).

        For people and tests that look into it; a service reads by `local`, which every store has.

        Raises:
            StoreError: the key would leave the store, or the store lies in no folder.
        """
        if not isinstance(self._objects, Folder):
            raise StoreError("The study store lies in no folder.")
        return self._objects.path(key)

    def put(self, key: str, chunks: Iterable[bytes | memoryview]) -> int:
        """Writes `chunks` under `key`, durably, and returns the number of bytes.

        An existing object is replaced as a whole: readers see the old or the new one.

        Raises:
            StoreError: retryable; the place refused. Nothing is left under `key` then that was
                not there before.
        """
        return self._objects.put(key, chunks)

    def put_file(self, key: str, file: Path, *, replace: bool = False) -> None:
        """`put_files` of one file."""
        self._objects.put_files([(key, file)], replace=replace)

    def put_files(self, files: Sequence[tuple[str, Path]], *, replace: bool = False) -> None:
        """Moves files whose data are synced into the store, each under its key, durably.

        The file is gone when its object is durable: on the store's own file system it becomes the
        object without a copy, elsewhere it is removed after its object was looked at
        (`letting_go`). Repeating what was interrupted is safe. A file whose key another object has
        keeps no other file out.

        Args:
            replace: else an object that is there already stays: one with the same bytes stands
                for the file, which is removed; one with other bytes is an error.

        Raises:
            ObjectDiffers: other bytes lie under a key; that file is left where it is.
            StoreError: retryable; the place refused. Files that were not stored are where they
                were. Where both happened, this error is raised.
        """
        self._objects.put_files(files, replace=replace)

    def read(self, key: str) -> bytes:
        """The bytes under `key`.

        Raises:
            ObjectMissing: there is no such key.
            StoreError: the object cannot be read.
        """
        return self._objects.read(key)

    def exists(self, key: str) -> bool:
        """Whether there is an object under `key`."""
        return self._objects.size(key) is not None

    def size(self, key: str) -> int | None:
        """The bytes of the object under `key`; None where there is none."""
        return self._objects.size(key)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All objects below `prefix`, which is a key's beginning up to a slash; in no order."""
        return self._objects.list(prefix)

    def delete(self, keys: Sequence[str]) -> None:
        """Removes objects; an object that is not there is removed already.

        Raises:
            StoreError: retryable; some may be left.
        """
        self._objects.delete(keys)

    def tidy(self, keys: Sequence[str]) -> None:
        """Removes what is empty where these objects lay; no object, wherever it lies.

        Raises:
            StoreError: retryable; the place refused.
        """
        self._objects.tidy(keys)

    def local(self, keys: Sequence[str]) -> AbstractContextManager[Mapping[str, Path]]:
        """Files with the objects' bytes, by key, while the context is open. Not to be written to.

        In a folder they are the objects themselves: no byte is copied. From S3 those that the
        cache does not hold are read in parallel, each complete (its size is compared) before it
        has its name.

        Raises:
            ObjectMissing: an object is not there.
            StoreError: an object cannot be read.
        """
        return self._objects.local(keys)

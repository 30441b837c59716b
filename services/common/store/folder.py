"""The study store in a folder.

A write goes to a temporary name, is synced, gets its name, and the directory entry is synced.
This is our own code and not the object library's: its local store syncs neither the data nor the
entry (docs/decisions/0007).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import errno
import os
import shutil
import uuid
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from services.common.durable import make_folder, sync_folder
from services.common.store.errors import ObjectDiffers, ObjectMissing, StoreError
from services.common.store.keys import parent_of, segments
from services.common.store.letting_go import FileCopy, is_one_entry, let_go
from services.common.store.objects import StoredObject

# Removing the last object of a folder removes the folder. A put that had just found it is done
# again; that it happens so often in a row is no coincidence any more.
_ATTEMPTS_TO_ENTER = 20
# File systems without hard links answer with one of these.
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Folder:
    """Objects as files below `root`, which is made when missing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the object lies (or would lie).

        Raises:
            StoreError: the key would leave the folder.
        """
        return self.root.joinpath(*segments(key))

    def put(self, key: str, chunks: Iterable[bytes | memoryview]) -> int:
        target = self.path(key)
        temporary = _temporary(target)
        size = 0
        try:
            with self._begin(temporary) as file:
                for chunk in chunks:
                    size += file.write(chunk)
                file.flush()
                os.fdatasync(file.fileno())
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            _discard(temporary)
            raise _refused("write", key, error) from error
        return size

    def put_files(self, files: Sequence[tuple[str, Path]], *, replace: bool) -> None:
        left: list[tuple[Path, Path]] = []
        entered: dict[str, Path] = {}
        problem: StoreError | None = None
        # Paths as text: many instances come at once, and a `Path` costs as much as a rename.
        for key, file, target in [(key, file, self._text_path(key)) for key, file in files]:
            parent = parent_of(key)
            folder = entered.get(parent)
            try:
                if self._enter(file, target, made=folder is not None, replace=replace):
                    left.append((file, Path(target)))
            except FileExistsError:
                if is_one_entry(file, Path(target)):
                    continue  # it is the object
                if not _same(file, Path(target)):
                    problem = problem or ObjectDiffers(key)
                    continue
                left.append((file, Path(target)))
            except OSError as error:
                problem = _refused("take", key, error)
                continue
            if folder is None:
                entered[parent] = Path(target).parent
        # One sync per folder, however many of its objects are new.
        try:
            for folder in entered.values():
                _sync_folder(folder)
            for file, target in left:
                let_go(file, FileCopy(target))
        except OSError as error:
            problem = _refused("sync", "a folder", error)
        if problem is not None:
            raise problem

    def read(self, key: str) -> bytes:
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError as error:
            raise ObjectMissing(key) from error
        except OSError as error:
            raise _refused("read", key, error) from error

    def size(self, key: str) -> int | None:
        path = self.path(key)
        try:
            return path.stat().st_size if path.is_file() else None
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused("look at", key, error) from error

    def list(self, prefix: str) -> Iterator[StoredObject]:
        for folder, folders, names in os.walk(self.path(prefix) if prefix else self.root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                if name.startswith("."):
                    continue  # on its way in
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    yield StoredObject(
                        path.relative_to(self.root).as_posix(),
                        found.st_size,
                        dt.datetime.fromtimestamp(found.st_mtime, dt.UTC),
                    )

    def delete(self, keys: Sequence[str]) -> None:
        left: set[Path] = set()
        for key in keys:
            path = self.path(key)
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue  # something else lies where the key's folder would
            except OSError as error:
                raise _refused("delete", key, error) from error
            left.add(path.parent)
        try:
            for folder in sorted(left, key=lambda path: len(path.parts), reverse=True):
                _sync_folder(self._remove_empty(folder))
        except OSError as error:
            raise _refused("sync", "a folder", error) from error

    def tidy(self, keys: Sequence[str]) -> None:
        try:
            for folder in dict.fromkeys(self.path(key).parent for key in keys):
                _sync_folder(self._remove_empty(folder))
        except OSError as error:
            raise _refused("tidy", "a folder", error) from error

    @contextmanager
    def local(self, keys: Sequence[str]) -> Generator[Mapping[str, Path]]:
        paths = {key: self.path(key) for key in keys}
        for key, path in paths.items():
            if not path.is_file():
                raise ObjectMissing(key)
        yield paths

    def _text_path(self, key: str) -> str:
        return "/".join((str(self.root), *segments(key)))

    def _begin(self, temporary: Path) -> BinaryIO:
        for _ in range(_ATTEMPTS_TO_ENTER - 1):
            with contextlib.suppress(FileNotFoundError):
                make_folder(temporary.parent)
                return temporary.open("xb")
        make_folder(temporary.parent)
        return temporary.open("xb")

    def _enter(self, file: Path, target: str, *, made: bool, replace: bool) -> bool:
        """As `_give_name`, in a folder that is made unless it was a moment ago."""
        if made:
            with contextlib.suppress(FileNotFoundError):
                return _give_name(file, target, replace=replace)
        for _ in range(_ATTEMPTS_TO_ENTER - 1):
            try:
                make_folder(Path(target).parent)
                return _give_name(file, target, replace=replace)
            except FileNotFoundError:
                if not file.exists():
                    raise
        make_folder(Path(target).parent)
        return _give_name(file, target, replace=replace)

    def _remove_empty(self, folder: Path) -> Path:
        """Removes the folder and those above it as far as they are empty; returns what is left."""
        while folder != self.root:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:  # not empty
                break
            folder = folder.parent
        return folder


def _give_name(file: Path, target: str, *, replace: bool) -> bool:
    """Has the file under the target's name as well, or (with `replace`) instead.

    Returns:
        Whether it may still have its old name.

    Raises:
        FileExistsError: something has that name, and is not to be replaced.
    """
    try:
        if replace:
            os.replace(file, target)  # noqa: PTH105 - the target is text
            return False
        _link(file, Path(target))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy = _temporary(Path(target))
        try:
            _copy_synced(file, copy)
            if replace:
                copy.replace(target)
            else:
                _link(copy, Path(target))
        finally:
            _discard(copy)
    return True


def _link(file: Path, target: Path) -> None:
    # A second name fails where the name is taken; a rename would overwrite it without a word.
    try:
        target.hardlink_to(file)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", str(target)) from error
        file.rename(target)


def _copy_synced(file: Path, copy: Path) -> None:
    with file.open("rb") as source, copy.open("xb") as written:
        shutil.copyfileobj(source, written, 1 << 20)
        written.flush()
        os.fdatasync(written.fileno())


def _same(file: Path, target: Path) -> bool:
    """Whether both have the same bytes."""
    try:
        return FileCopy(target).stands_for(file)
    except OSError:
        return False


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def _refused(verb: str, key: str, error: OSError) -> StoreError:
    return StoreError(
        f"The store could not {verb} {key}: {error.strerror or error}. "
        "Check the disk's space and permissions.",
        retryable=True,
    )


def _sync_folder(folder: Path) -> None:
    # It is missing when its last object was deleted meanwhile, by somebody who syncs what is above.
    with contextlib.suppress(FileNotFoundError):
        sync_folder(folder)

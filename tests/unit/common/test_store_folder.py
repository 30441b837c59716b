"""How files enter and leave a store in a folder: without a copy, exclusively, durably."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.store import ObjectDiffers, StoreError, StudyStore
from services.common.store import folder as folder_module

KEY = "studies/1.2/1.2.3/1.2.3.4.dcm"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A synced file in a spool."""
    spool = tmp_path / "spool"
    spool.mkdir()
    spooled = spool / "1.dcm"
    spooled.write_bytes(b"image")
    return spooled


def _fails_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_file_on_the_same_disk_becomes_the_object(tmp_path: Path, file: Path) -> None:
    inode = file.stat().st_ino
    store = StudyStore(tmp_path / "store")
    store.put_file(KEY, file)
    assert store.path(KEY).stat().st_ino == inode
    assert not file.exists()


def test_folders_are_synced_once_for_all_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StudyStore(tmp_path / "store")
    store.put("studies/1/1/0.dcm", [b"x"])
    files: list[tuple[str, Path]] = []
    for number in range(1, 20):
        spooled = tmp_path / f"{number}"
        spooled.write_bytes(b"x")
        files.append((f"studies/1/{number % 2 + 1}/{number}.dcm", spooled))
    (tmp_path / "store" / "studies" / "1" / "2").mkdir()
    synced: list[str] = []
    monkeypatch.setattr(folder_module, "_sync_folder", lambda folder: synced.append(folder.name))
    store.put_files(files)
    assert sorted(synced) == ["1", "2"]


def test_file_leaves_the_spool_only_after_the_sync(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StudyStore(tmp_path / "store")
    store.put("studies/1.2/1.2.3/other.dcm", [b"x"])
    monkeypatch.setattr(os, "fsync", _fails_with(errno.EIO))
    with pytest.raises(StoreError) as error:
        store.put_file(KEY, file)
    assert error.value.retryable
    assert file.read_bytes() == b"image"
    monkeypatch.undo()
    store.put_file(KEY, file)  # its object is there already, and is it
    assert store.read(KEY) == b"image"
    assert not file.exists()


@pytest.mark.parametrize("replace", [False, True])
def test_file_of_another_disk_is_copied_and_synced(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    real_link, real_replace, synced = Path.hardlink_to, os.replace, list[int]()

    def link(self: Path, target: Path) -> None:
        if "spool" in target.parts:
            _fails_with(errno.EXDEV)()
        real_link(self, target)

    def replaced(source: Path, target: Path | str) -> None:
        if "spool" in source.parts:
            _fails_with(errno.EXDEV)()
        real_replace(source, target)

    monkeypatch.setattr(Path, "hardlink_to", link)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    store = StudyStore(tmp_path / "store")
    store.put_file(KEY, file, replace=replace)
    assert store.read(KEY) == b"image"
    assert len(synced) == 1
    assert not file.exists()
    assert [entry.name for entry in store.path(KEY).parent.iterdir()] == [store.path(KEY).name]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_disk_without_links_stores_files_and_overwrites_none(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", _fails_with(number))
    store = StudyStore(tmp_path / "store")
    store.put_file(KEY, file)
    assert store.read(KEY) == b"image"
    file.write_bytes(b"other")
    with pytest.raises(ObjectDiffers):
        store.put_file(KEY, file)
    assert file.exists()
    assert store.read(KEY) == b"image"


def test_deleting_the_last_object_removes_its_folders(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    for key in (KEY, "studies/1.2/1.9/1.dcm"):
        store.put(key, [b"x"])
    store.delete([KEY])
    assert not store.path(KEY).parent.exists()
    store.delete(["studies/1.2/1.9/1.dcm"])
    assert list(store.root.iterdir()) == []


def test_putting_and_deleting_in_one_folder_at_once_loses_nothing(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            store.put("studies/1/1/passing.dcm", [b"x"])
            store.delete(["studies/1/1/passing.dcm"])

    with ThreadPoolExecutor(1) as pool:
        churning = pool.submit(churn)
        for number in range(200):
            spooled = tmp_path / f"{number}"
            spooled.write_bytes(b"%d" % number)
            store.put_file("studies/1/1/1.dcm", spooled)
            assert store.read("studies/1/1/1.dcm") == b"%d" % number
            store.delete(["studies/1/1/1.dcm"])
        stop.set()
        churning.result()


def test_file_on_its_way_in_is_not_listed(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    store.put("a/b", [b"x"])
    (tmp_path / "a" / ".c.1234.part").write_bytes(b"half")
    assert [found.key for found in store.list("")] == ["a/b"]

"""The study store: durable, whole, and never outside its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.common.store import StoreError, StudyStore, instance_key


def test_what_was_put_is_read_back(tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    assert store.put("jobs/1.2/labels", [b"ab", memoryview(b"cd")]) == 4
    assert store.read("jobs/1.2/labels") == b"abcd"
    assert store.exists("jobs/1.2/labels")


def test_replacing_leaves_no_remains(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    store.put("a/b", [b"old and long"])
    store.put("a/b", [b"new"])
    assert store.read("a/b") == b"new"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a\0b"])
def test_key_cannot_leave_the_store(tmp_path: Path, key: str) -> None:
    with pytest.raises(StoreError):
        StudyStore(tmp_path).put(key, [b"x"])


@pytest.mark.parametrize("uid", ["../../x", "1.2/..", "", "1.2\n"])
def test_only_uids_become_instance_keys(uid: str) -> None:
    with pytest.raises(StoreError, match="no UID"):
        instance_key("1.2", uid, "1.2.3")


def test_full_disk_is_retryable_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = StudyStore(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(StoreError, match="No space left") as error:
        store.put("a/b", [b"x"])
    assert error.value.retryable
    assert list((tmp_path / "a").iterdir()) == []


def test_file_and_every_new_folder_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append("file"))

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    StudyStore(tmp_path).put("a/b/c", [b"x"])
    assert synced == [tmp_path.name, "a", "file", "b"]

"""The study store's rules, in a folder and in S3."""

from __future__ import annotations

import errno
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from obstore.exceptions import GenericError

from services.common.store import ObjectDiffers, ObjectMissing, StoreError, StudyStore, s3
from tests.builders.s3_server import S3Server
from tests.integration.conftest import open_s3

SERIES = "studies/1.2/1.2.3"
MIB = 1 << 20


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StudyStore:
    """An empty store: the test runs on each kind of place."""
    if request.param == "folder":
        return StudyStore(tmp_path / "store")
    return request.getfixturevalue("s3_store")


def _file(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


def _content(size: int, seed: int = 1) -> bytes:
    return bytes((seed + n * 7 + (n >> 8)) & 0xFF for n in range(min(size, 4096))) * (
        size // 4096 + 1
    )


def test_what_was_put_is_read_back(store: StudyStore) -> None:
    assert store.put("jobs/1.2/labels", [b"ab", memoryview(b"cd")]) == 4
    assert store.read("jobs/1.2/labels") == b"abcd"
    assert store.exists("jobs/1.2/labels")
    assert store.size("jobs/1.2/labels") == 4


def test_putting_again_replaces_as_a_whole(store: StudyStore) -> None:
    store.put("a/b", [b"old and long"])
    store.put("a/b", [b"new"])
    assert store.read("a/b") == b"new"


def test_what_is_not_there_is_missing(store: StudyStore) -> None:
    assert store.size("a/b") is None
    assert not store.exists("a/b")
    with pytest.raises(ObjectMissing) as error:
        store.read("a/b")
    assert error.value.key == "a/b"
    assert not error.value.retryable


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "a/.b.part"])
def test_key_cannot_leave_the_store(store: StudyStore, tmp_path: Path, key: str) -> None:
    file = _file(tmp_path, "x", b"x")
    for ask in (
        lambda: store.put(key, [b"x"]),
        lambda: store.put_file(key, file),
        lambda: store.read(key),
        lambda: store.exists(key),
        lambda: store.delete([key]),
    ):
        with pytest.raises(StoreError, match="is no key"):
            ask()
    assert file.exists()


@pytest.mark.parametrize("size", [0, 10, MIB, 20 * MIB])
def test_file_is_moved_in_and_gone(store: StudyStore, tmp_path: Path, size: int) -> None:
    content = _content(size)[:size]
    file = _file(tmp_path, "spooled", content)
    store.put_file(f"{SERIES}/1.dcm", file)
    assert not file.exists()
    assert store.read(f"{SERIES}/1.dcm") == content


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_file_never_replaces_another_object(store: StudyStore, tmp_path: Path, size: int) -> None:
    first, other = _content(size, 1)[:size], _content(size, 2)[:size]
    store.put_file(f"{SERIES}/1.dcm", _file(tmp_path, "first", first))
    file = _file(tmp_path, "other", other)
    with pytest.raises(ObjectDiffers):
        store.put_file(f"{SERIES}/1.dcm", file)
    assert file.read_bytes() == other
    assert store.read(f"{SERIES}/1.dcm") == first
    store.put_file(f"{SERIES}/1.dcm", file, replace=True)
    assert store.read(f"{SERIES}/1.dcm") == other


@pytest.mark.parametrize("size", [10, 20 * MIB])
def test_file_with_the_same_bytes_was_stored_before(
    store: StudyStore, tmp_path: Path, size: int
) -> None:
    content = _content(size)[:size]
    for name in ("first", "again"):
        file = _file(tmp_path, name, content)
        store.put_file(f"{SERIES}/1.dcm", file)
        assert not file.exists()


def test_one_file_that_is_not_stored_keeps_no_other_out(store: StudyStore, tmp_path: Path) -> None:
    store.put(f"{SERIES}/2.dcm", [b"was here first"])
    files = [(f"{SERIES}/{n}.dcm", _file(tmp_path, f"{n}", b"%d" % n)) for n in range(5)]
    with pytest.raises(ObjectDiffers) as error:
        store.put_files(files)
    assert error.value.key == f"{SERIES}/2.dcm"
    assert [file.exists() for _, file in files] == [False, False, True, False, False]
    assert {found.key for found in store.list(SERIES)} == {key for key, _ in files}


def test_of_two_different_files_at_once_one_stays(store: StudyStore, tmp_path: Path) -> None:
    for attempt in range(4):
        key = f"{SERIES}/{attempt}.dcm"
        files = [_file(tmp_path, f"{attempt}-{n}", b"%d" % n * 1000) for n in range(4)]
        start = threading.Barrier(len(files))

        def put(file: Path, key: str = key, start: threading.Barrier = start) -> bool:
            start.wait()
            try:
                store.put_file(key, file)
            except ObjectDiffers:
                return False
            return True

        with ThreadPoolExecutor(len(files)) as pool:
            stored = list(pool.map(put, files))
        assert sum(stored) == 1
        assert store.read(key) == b"%d" % stored.index(True) * 1000


def test_listing_names_what_lies_below_a_prefix(store: StudyStore) -> None:
    keys = {f"studies/1.2/{series}/{n}.dcm" for series in ("1", "10") for n in range(3)}
    for key in keys:
        store.put(key, [key.encode()])
    assert {found.key for found in store.list("studies")} == keys
    below = {found.key: found.size_bytes for found in store.list("studies/1.2/1")}
    assert below == {key: len(key) for key in keys if key.startswith("studies/1.2/1/")}
    assert list(store.list("jobs")) == []


def test_deleting_twice_is_deleting_once(store: StudyStore) -> None:
    keys = [f"{SERIES}/{n}.dcm" for n in range(4)]
    for key in keys:
        store.put(key, [b"x"])
    store.delete([*keys[:3], "jobs/none/such"])
    store.delete(keys[:3])
    assert [found.key for found in store.list("studies")] == keys[3:]


def test_local_files_have_the_objects_bytes(store: StudyStore) -> None:
    content = {f"studies/1.2/{n % 2}/{n}.dcm": _content(9000, n) for n in range(12)}
    for key, value in content.items():
        store.put(key, [value])
    with store.local(list(content)) as files:
        assert {key: files[key].read_bytes() for key in content} == content


def test_local_file_of_a_missing_object_is_named(store: StudyStore) -> None:
    store.put(f"{SERIES}/1.dcm", [b"x"])
    missing = f"{SERIES}/2.dcm"
    for keys in ([missing], [f"{SERIES}/1.dcm", missing]):
        with pytest.raises(ObjectMissing) as error, store.local(keys):
            pass
        assert error.value.key == missing


def test_local_file_follows_a_replaced_object(store: StudyStore) -> None:
    key = "jobs/1/seg.dcm"
    for content in (b"first", b"again"):
        store.put(key, [content])
        with store.local([key]) as files:
            assert files[key].read_bytes() == content


def test_folder_lends_the_object_itself(tmp_path: Path) -> None:
    store = StudyStore(tmp_path)
    store.put("a/b", [b"x"])
    with store.local(["a/b"]) as files:
        assert files["a/b"] == tmp_path / "a" / "b"


def _copies(cache: Path) -> list[Path]:
    return [file for file in cache.rglob("*.dcm") if file.is_file()]


def test_cache_keeps_its_bound_and_what_is_in_use(s3_server: S3Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    store = open_s3(s3_server, cache, "bounded", cache_bytes=3000)
    keys = [f"studies/1/{n}/1.dcm" for n in range(5)]
    for key in keys:
        store.put(key, [b"x" * 1000])
    with store.local(keys[:1]) as held:
        for key in keys[1:]:
            with store.local([key]):
                pass
        assert held[keys[0]].exists()  # the oldest, and in use
        assert sum(file.stat().st_size for file in _copies(cache)) <= 3000
    with store.local(keys[:4]) as files:
        assert all(files[key].read_bytes() == b"x" * 1000 for key in keys[:4])


def test_cache_reads_an_object_once(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_s3(s3_server, tmp_path / "cache", "once")
    store.put(f"{SERIES}/1.dcm", [b"x"])
    with store.local([f"{SERIES}/1.dcm"]) as files:
        first = files[f"{SERIES}/1.dcm"].stat().st_ino
    with store.local([f"{SERIES}/1.dcm"]) as files:
        assert files[f"{SERIES}/1.dcm"].stat().st_ino == first


def test_two_that_share_a_cache_never_lose_what_they_use(
    s3_server: S3Server, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    stores = [open_s3(s3_server, cache, "shared", cache_bytes=1) for _ in range(2)]
    keys = [f"studies/1/{series}/{n}.dcm" for series in range(3) for n in range(4)]
    for key in keys:
        stores[0].put(key, [key.encode()])

    def use(number: int) -> bool:
        store = stores[number % 2]
        chosen = [key for key in keys if key.split("/")[2] == str(number % 3)]
        with store.local(chosen) as files:
            return all(files[key].read_bytes() == key.encode() for key in chosen)

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, range(120)))


def test_copies_of_an_earlier_boot_are_removed(s3_server: S3Server, tmp_path: Path) -> None:
    stale = tmp_path / "cache" / "another-boot" / "series"
    stale.mkdir(parents=True)
    (stale / "1.dcm").write_bytes(b"perhaps torn")
    open_s3(s3_server, tmp_path / "cache", "boot")
    assert not stale.exists()


def test_wrong_credentials_are_named_and_never_shown(s3_server: S3Server, tmp_path: Path) -> None:
    secret = _file(tmp_path, "secret", b"a-wrong-secret")
    store = open_s3(s3_server, tmp_path / "cache", "wrong", secret_access_key_file=secret)
    with pytest.raises(StoreError, match="does not accept the credentials") as error:
        store.put("a/b", [b"x"])
    assert "a-wrong-secret" not in repr(error.value) + repr(store)


def test_server_that_is_away_is_retryable_and_keeps_the_file(tmp_path: Path) -> None:
    with S3Server(tmp_path / "server") as server:
        store = open_s3(server, tmp_path / "cache", "away", timeout_s=0.5)
        file = _file(tmp_path, "spooled", b"x")
        server.stop()
        for ask in (
            lambda: store.put_file("a/b", file),
            lambda: store.put("a/b", [b"x"]),
            lambda: store.size("a/b"),
            lambda: list(store.list("a")),
            lambda: store.delete(["a/b"]),
        ):
            with pytest.raises(StoreError) as error:
                ask()
            assert error.value.retryable
        assert file.read_bytes() == b"x"
        server.start()
        store.put_file("a/b", file)
        assert store.read("a/b") == b"x"


def test_a_connection_that_breaks_within_an_object_keeps_no_other_file_out(
    s3_store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = s3.obstore.get

    class _Broken:
        def __init__(self, answer: Any) -> None:
            self._answer = answer

        def stream(self) -> Iterator[bytes]:
            yield from itertools.islice(self._answer.stream(1 << 10), 1)
            raise GenericError("connection reset by peer")

    files = [(f"{SERIES}/{n}.dcm", _file(tmp_path, f"{n}", _content(4096, n))) for n in range(5)]
    s3_store.put(files[0][0], [files[0][1].read_bytes()])  # an upload whose answer was lost
    monkeypatch.setattr(s3.obstore, "get", lambda *given: _Broken(real(*given)))
    with pytest.raises(StoreError) as error:
        s3_store.put_files(files)
    assert error.value.retryable
    monkeypatch.undo()
    s3_store.put_files([(key, file) for key, file in files if file.exists()])
    assert [file.exists() for _, file in files] == [False] * 5
    assert {found.key for found in s3_store.list(SERIES)} == {key for key, _ in files}


def test_a_file_that_cannot_be_removed_is_a_refusal(
    s3_store: StudyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: Path, *, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    files = [(f"{SERIES}/{n}.dcm", _file(tmp_path, f"{n}", b"%d" % n)) for n in range(3)]
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(StoreError, match="Read-only") as error:
            s3_store.put_files(files)
    assert error.value.retryable
    s3_store.put_files(files)
    assert not any(file.exists() for _, file in files)

"""The cache's folder of a group, made and removed by several processes at once."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.store.cache import Cache


def test_a_group_removed_while_it_is_entered_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mkdir` finds the group; before it can look whether that is a folder, it is gone."""
    cache = Cache(tmp_path, max_bytes=1)
    with cache.hold(["series"]) as folders:
        group = folders["series"]
    is_dir = Path.is_dir

    def removed_first(path: Path) -> bool:
        if path == group:
            monkeypatch.setattr(Path, "is_dir", is_dir)
            shutil.rmtree(group)
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", removed_first)
    with cache.hold(["series"]) as folders:
        assert Path.is_dir is is_dir
        assert folders["series"].is_dir()


def test_a_file_with_a_groups_name_is_an_error(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1)
    with cache.hold(["series"]) as folders:
        group = folders["series"]
    shutil.rmtree(group)
    group.write_bytes(b"")
    with pytest.raises(FileExistsError), cache.hold(["series"]):
        pass


def test_groups_come_and_go_under_many_hands(tmp_path: Path) -> None:
    caches = [Cache(tmp_path, max_bytes=1) for _ in range(2)]

    def use(number: int) -> bool:
        cache, name = caches[number % 2], f"series-{number % 3}"
        with cache.hold([name]) as folders:
            file = folders[name] / f"{number}.dcm"
            file.write_bytes(name.encode())
            whole = file.read_bytes() == name.encode()
        cache.trim()
        return whole

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(use, range(600)))

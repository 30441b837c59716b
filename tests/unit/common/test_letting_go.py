"""A received file is removed only when another durable copy of it was looked at."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.common.store import FileCopy, NoOtherCopy, StudyStore, let_go

CHECKOUT = Path(__file__).resolve().parents[3]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_file_goes_when_another_has_its_bytes(tmp_path: Path) -> None:
    file, kept = written(tmp_path / "a", b"pixels"), written(tmp_path / "b", b"pixels")
    let_go(file, FileCopy(kept))
    assert not file.exists()
    assert kept.read_bytes() == b"pixels"
    let_go(file, FileCopy(kept))  # it is gone already


def test_a_file_goes_when_it_has_a_second_name(tmp_path: Path) -> None:
    file = written(tmp_path / "a", b"pixels")
    (tmp_path / "b").hardlink_to(file)
    let_go(file, FileCopy(tmp_path / "b"))
    assert not file.exists()


def test_what_names_the_sender_may_differ(tmp_path: Path) -> None:
    file, kept = written(tmp_path / "a", b"MR1 pixels"), written(tmp_path / "b", b"MR2 pixels")
    let_go(file, FileCopy(kept, head_bytes=4))
    assert not file.exists()


@pytest.mark.parametrize("other", ["missing", "other bytes", "shorter", "itself", "a way to it"])
def test_without_a_copy_it_stays(other: str, tmp_path: Path) -> None:
    file = written(tmp_path / "a", b"pixels")
    copies = {
        "missing": tmp_path / "b",
        "other bytes": written(tmp_path / "c", b"others"),
        "shorter": written(tmp_path / "d", b"pix"),
        "itself": tmp_path / "folder" / ".." / "a",
        "a way to it": tmp_path / "e",
    }
    (tmp_path / "folder").mkdir()
    (tmp_path / "e").symlink_to(file)
    with pytest.raises(NoOtherCopy):
        let_go(file, FileCopy(copies[other]))
    assert file.read_bytes() == b"pixels"


@pytest.mark.parametrize("replace", [False, True])
def test_an_object_put_under_its_own_key_stays(replace: bool, tmp_path: Path) -> None:
    store = StudyStore(tmp_path / "store")
    store.put("studies/1/2/3.dcm", [b"pixels"])
    store.put_files([("studies/1/2/3.dcm", store.path("studies/1/2/3.dcm"))], replace=replace)
    assert store.read("studies/1/2/3.dcm") == b"pixels"


# Where files are removed, and what they are: none of them was acknowledged and is nowhere else.
ALLOWED = {
    "services/common/store/letting_go.py": 1,  # the one way
    "services/common/store/folder.py": 2,  # a deletion that was asked for; a temporary name
    "services/common/store/cache.py": 2,  # copies of what lies in S3
    "services/common/store/s3.py": 1,  # a temporary name in the cache
    "services/listener/door/ready_files.py": 1,  # nothing of it was acknowledged
    "services/listener/registering/recovery.py": 1,  # of no bytes
}


# Where objects of the store are deleted, and where one takes another one's place.
DELETED = {
    "services/listener/keeping/removal.py": 3,  # retention, of whole studies
    "services/listener/keeping/resolving.py": 1,  # behind a copy that was looked at
    "services/common/store/s3.py": 1,  # what `StudyStore.delete` is there
}
REPLACED = {
    # The outbox: the row decided; what lay in the store is kept beside it before.
    "services/listener/keeping/shipping.py": 2,
    # What lay there is kept beside it before; a lost or damaged file is healed.
    "services/listener/registering/placing.py": 2,
}


def _counted(pattern: str) -> dict[str, int]:
    """How often a pattern is met, by file."""
    found: dict[str, int] = {}
    for folder in ("services/listener", "services/common/store"):
        for file in (CHECKOUT / folder).rglob("*.py"):
            if times := len(re.findall(pattern, file.read_text(encoding="utf-8"))):
                found[str(file.relative_to(CHECKOUT))] = times
    return found


def test_nothing_else_in_these_rooms_removes_a_file() -> None:
    assert _counted(r"\.unlink\(|os\.remove\(|rmtree\(") == ALLOWED


def test_nothing_else_in_these_rooms_deletes_an_object() -> None:
    assert _counted(r"store\.delete\(") == DELETED


def test_nothing_else_in_these_rooms_puts_a_file_in_the_place_of_another() -> None:
    assert _counted(r"replace=True") == REPLACED

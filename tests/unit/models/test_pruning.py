"""What may be removed of the builds, and what not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.building import BuildError, prune_builds
from models.building.repository import say_served
from models.manifest import repository_folder
from tests.builders.builds import write_build

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def built(output_root: Path, model: str = "brain", *days_ago: int) -> list[str]:
    """Builds of so many days ago; their digests begin with a, b, c ..."""
    digests = [chr(ord("a") + place) * 64 for place in range(len(days_ago))]
    for digest, days in zip(digests, days_ago, strict=True):
        write_build(output_root, model, digest, NOW - timedelta(days=days))
    return digests


def left(output_root: Path) -> list[str]:
    return sorted(one.name for one in repository_folder(output_root, "cpu").iterdir())


def pruned(output_root: Path, *wanted: str, younger_too: bool = False) -> list[str]:
    removed = prune_builds("cpu", output_root, wanted, younger_too=younger_too, now=NOW)
    return sorted(one.triton_name for one in removed)


def test_the_newest_three_of_a_model_stay(tmp_path: Path) -> None:
    built(tmp_path, "brain", 50, 40, 30, 20, 10)
    built(tmp_path, "liver", 90, 80)
    assert pruned(tmp_path) == ["brain--aaaaaaaaaaaa", "brain--bbbbbbbbbbbb"]
    assert left(tmp_path) == [
        "brain--cccccccccccc",
        "brain--dddddddddddd",
        "brain--eeeeeeeeeeee",
        "liver--aaaaaaaaaaaa",
        "liver--bbbbbbbbbbbb",
    ]


def test_what_is_served_stays_however_old(tmp_path: Path) -> None:
    write_build(tmp_path, "brain", "f" * 64, NOW - timedelta(days=90))
    built(tmp_path, "brain", 50, 40, 30, 20)
    say_served(tmp_path, write_build(tmp_path, "brain", "9" * 64, NOW - timedelta(days=99)))
    assert pruned(tmp_path) == ["brain--aaaaaaaaaaaa", "brain--ffffffffffff"]
    with pytest.raises(BuildError, match="is served"):
        pruned(tmp_path, "9" * 12, younger_too=True)
    assert "brain--999999999999" in left(tmp_path)


def test_what_a_job_may_still_want_stays_unless_all_may_go(tmp_path: Path) -> None:
    built(tmp_path, "brain", 6, 5, 4, 3)
    assert pruned(tmp_path) == []
    with pytest.raises(BuildError, match="younger than 7 days"):
        pruned(tmp_path, "a" * 12)
    assert pruned(tmp_path, younger_too=True) == ["brain--aaaaaaaaaaaa"]
    assert pruned(tmp_path, "brain--bbbbbbbbbbbb", younger_too=True) == ["brain--bbbbbbbbbbbb"]


def test_a_build_that_is_named_goes_though_it_is_among_the_newest(tmp_path: Path) -> None:
    built(tmp_path, "brain", 20, 10)
    assert pruned(tmp_path, "b" * 12) == ["brain--bbbbbbbbbbbb"]
    assert left(tmp_path) == ["brain--aaaaaaaaaaaa"]


def test_nothing_is_removed_when_one_of_those_named_may_not_go(tmp_path: Path) -> None:
    built(tmp_path, "brain", 20, 3)
    with pytest.raises(BuildError):
        pruned(tmp_path, "a" * 12, "b" * 12)
    with pytest.raises(BuildError, match="No build is called"):
        pruned(tmp_path, "a" * 12, "0" * 12)
    assert len(left(tmp_path)) == 2


def test_a_name_that_fits_two_builds_is_refused(tmp_path: Path) -> None:
    for rest in "01":
        write_build(tmp_path, "brain", "a" * 11 + rest * 53, NOW - timedelta(days=9))
    with pytest.raises(BuildError, match="Give more of the digest"):
        pruned(tmp_path, "a" * 11)


def test_the_plans_of_a_build_go_with_it(tmp_path: Path) -> None:
    built(tmp_path, "brain", 20)
    repository = repository_folder(tmp_path, "cpu")
    (repository / "brain--aaaaaaaaaaaa--fine").mkdir()
    (repository / "brain--bbbbbbbbbbbb--fine").mkdir()
    assert pruned(tmp_path, "a" * 12) == ["brain--aaaaaaaaaaaa"]
    assert left(tmp_path) == ["brain--bbbbbbbbbbbb--fine"]

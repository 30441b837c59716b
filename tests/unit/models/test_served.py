"""What the builder wants served: a file a model, replaced as a whole, read leniently."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.building.repository import say_served
from models.manifest import (
    BuildRecord,
    ServedBuild,
    UnreadableServed,
    build_folder,
    served_builds,
    served_file,
)
from tests.builders.builds import record_of, write_build


def served(output_root: Path) -> ServedBuild:
    (one,) = served_builds(output_root, "cpu")
    assert isinstance(one, ServedBuild)
    return one


def test_a_build_that_is_served_is_named_with_all_that_it_is(tmp_path: Path) -> None:
    record = write_build(tmp_path, "brain", "a" * 64)
    assert say_served(tmp_path, record)
    found = served(tmp_path)
    assert (found.model, found.digest, found.version) == ("brain", "a" * 64, "1.0.0")
    assert (found.precision, found.built_at) == ("f32", record.built_at)
    assert found.triton_name == "brain--aaaaaaaaaaaa"
    assert found.folder == build_folder(tmp_path, "cpu", "brain", "a" * 64)
    assert found.requested_at


def test_saying_the_same_again_changes_nothing(tmp_path: Path) -> None:
    record = write_build(tmp_path, "brain", "a" * 64)
    say_served(tmp_path, record)
    before = served_file(tmp_path, "cpu", "brain").read_text()
    assert not say_served(tmp_path, record)
    assert served_file(tmp_path, "cpu", "brain").read_text() == before


def test_going_back_to_an_earlier_build_is_said_by_the_file_alone(tmp_path: Path) -> None:
    one, other = (write_build(tmp_path, "brain", digest * 64) for digest in "ab")
    for record in (one, other, one):
        assert say_served(tmp_path, record)
        assert served(tmp_path).digest == record.digest


def test_nothing_is_served_where_nothing_was_built(tmp_path: Path) -> None:
    assert served_builds(tmp_path, "cpu") == ()


def broken_json(output_root: Path, record: BuildRecord) -> None:
    served_file(output_root, "cpu", record.model).write_text("{")


def no_mapping(output_root: Path, record: BuildRecord) -> None:
    served_file(output_root, "cpu", record.model).write_text("[]")


def no_digest(output_root: Path, record: BuildRecord) -> None:
    served_file(output_root, "cpu", record.model).write_text('{"version": "1"}')


def no_build(output_root: Path, record: BuildRecord) -> None:
    served_file(output_root, "cpu", record.model).write_text(json.dumps({"digest": "f" * 64}))


def another_build_of_the_same_beginning(output_root: Path, record: BuildRecord) -> None:
    digest = record.digest[:12] + "f" * 52
    served_file(output_root, "cpu", record.model).write_text(json.dumps({"digest": digest}))


def a_record_that_is_none(output_root: Path, record: BuildRecord) -> None:
    folder = build_folder(output_root, "cpu", record.model, record.digest)
    (folder / "build-record.json").write_text("{}")


@pytest.mark.parametrize(
    "break_",
    [
        broken_json,
        no_mapping,
        no_digest,
        no_build,
        another_build_of_the_same_beginning,
        a_record_that_is_none,
    ],
)
def test_a_broken_file_is_told_and_costs_the_other_models_nothing(
    tmp_path: Path, break_: object
) -> None:
    for name in ("brain", "liver", "spleen"):
        say_served(tmp_path, write_build(tmp_path, name, "a" * 64))
    assert callable(break_)
    break_(tmp_path, record_of("liver", "a" * 64))
    brain, liver, spleen = served_builds(tmp_path, "cpu")
    assert isinstance(brain, ServedBuild)
    assert isinstance(spleen, ServedBuild)
    assert isinstance(liver, UnreadableServed)
    assert liver.file == served_file(tmp_path, "cpu", "liver")
    assert liver.model == "liver"
    assert liver.problem


def test_keys_of_a_newer_version_are_passed_over(tmp_path: Path) -> None:
    say_served(tmp_path, write_build(tmp_path, "brain", "a" * 64))
    file = served_file(tmp_path, "cpu", "brain")
    file.write_text(json.dumps({**json.loads(file.read_text()), "canary": 5}))
    assert served(tmp_path).digest == "a" * 64

"""``axial models``: what is built, what is served, and what may go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.building.repository import say_served
from models.manifest import load_manifest, repository_folder
from services.cli.output import CommandError
from services.cli.stack.processes import stack_processes
from services.cli.tree import app
from services.common.settings import load_settings
from tests.builders.builds import write_build

CATALOGUE = Path(__file__).resolve().parents[3] / "models" / "catalogue"
NAME = "brain-extraction"
Axial = Callable[..., Result]


@pytest.fixture
def axial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Axial:
    """The command, with a catalogue and builds of its own."""
    shutil.copytree(CATALOGUE / NAME, tmp_path / "catalogue" / NAME)
    monkeypatch.setenv("AXIAL_CATALOGUE_DIR", str(tmp_path / "catalogue"))
    monkeypatch.setenv("AXIAL_TRITON__REPOSITORY", str(tmp_path / "built"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["models", *arguments])

    return run


def built(tmp_path: Path, digest: str, days_ago: float = 0.0) -> Any:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    return write_build(tmp_path / "built", NAME, digest, at)


def test_a_model_that_is_not_built_is_listed_as_such(axial: Axial) -> None:
    assert "not built" in axial("list").output
    (listed,) = json.loads(axial("list", "--json").output)
    assert (listed["name"], listed["builds"], listed["problem"]) == (NAME, [], None)
    assert listed["resources"]["host_memory_mib"] > 0


def test_every_build_is_listed_with_its_digest_and_whether_it_is_served(
    axial: Axial, tmp_path: Path
) -> None:
    current = load_manifest(CATALOGUE / NAME).digest_for("f32")
    say_served(tmp_path / "built", built(tmp_path, current))
    built(tmp_path, "a" * 64, days_ago=3)
    (listed,) = json.loads(axial("list", "--json").output)
    found = [(one["digest"], one["served"], one["stale"]) for one in listed["builds"]]
    assert found == [(current, True, False), ("a" * 64, False, True)]
    assert listed["builds"][1]["triton_name"] == f"{NAME}--aaaaaaaaaaaa"
    table = axial("list").output
    assert current[:12] in table
    assert "aaaaaaaaaaaa" in table


def test_a_broken_served_file_is_told_by_name(axial: Axial, tmp_path: Path) -> None:
    file = tmp_path / "built" / "cpu" / "served" / f"{NAME}.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    (listed,) = json.loads(axial("list", "--json").output)
    assert "axial.served/v1" in listed["problem"]


def test_old_builds_are_pruned_and_what_is_served_is_refused(axial: Axial, tmp_path: Path) -> None:
    records = [built(tmp_path, letter * 64, 10 + days) for days, letter in enumerate("abcde")]
    say_served(tmp_path / "built", records[-1])
    refused = axial("prune", "e" * 12, "--all")
    assert refused.exit_code != 0
    assert "is served" in refused.output
    done = axial("prune")
    assert f"{NAME}--dddddddddddd: removed" in done.output
    left = sorted(one.name[-1] for one in repository_folder(tmp_path / "built", "cpu").iterdir())
    assert left == ["a", "b", "c", "e"]
    assert "Nothing to remove" in axial("prune").output


def test_a_build_is_verified_by_its_digest(axial: Axial, tmp_path: Path) -> None:
    built(tmp_path, "a" * 64)
    asked = axial("verify", "b" * 12)
    assert asked.exit_code != 0
    assert "No build is called bbbbbbbbbbbb" in asked.output
    nothing = axial("verify")
    assert nothing.exit_code != 0
    assert "axial models build" in nothing.output


def test_lint_names_file_line_and_field(axial: Axial, tmp_path: Path) -> None:
    assert f"{NAME}: ok" in axial("lint").output
    file = tmp_path / "catalogue" / NAME / "model.yaml"
    file.write_text(file.read_text().replace("inputs: [image]", "inputs: [image, image]", 1))
    found = axial("lint")
    assert found.exit_code == 1
    assert "networks.coarse.inputs" in found.output
    line = file.read_text().splitlines().index("    inputs: [image, image]") + 1
    assert f"model.yaml:{line}" in found.output
    (told,) = json.loads(axial("lint", NAME, "--json").output)
    assert told["name"] == NAME
    assert "networks.coarse.inputs" in told["problem"]


@pytest.mark.usefixtures("axial")
def test_a_stack_without_builds_says_what_to_do() -> None:
    with pytest.raises(CommandError, match="Run: axial models build"):
        stack_processes(load_settings().settings, None)


@pytest.mark.usefixtures("axial")
def test_a_stack_loads_what_is_served(tmp_path: Path) -> None:
    built(tmp_path, "a" * 64)
    say_served(tmp_path / "built", built(tmp_path, "b" * 64))
    triton = stack_processes(load_settings().settings, None)[0]
    assert [word for word in triton.argv if word.startswith("--load-model")] == [
        f"--load-model={NAME}--bbbbbbbbbbbb"
    ]


@pytest.mark.usefixtures("axial")
def test_a_stack_whose_models_need_more_memory_than_there_is_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "catalogue" / NAME / "model.yaml"
    text = file.read_text()
    file.write_text(text.replace("host_memory_mib: 1500", "host_memory_mib: 99999999"))
    say_served(tmp_path / "built", built(tmp_path, "b" * 64))
    with pytest.raises(CommandError, match="99999999 MiB"):
        stack_processes(load_settings().settings, None)

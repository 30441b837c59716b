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
    file.write_text(
        file.read_text().replace("  - {do: orient, in: image,", "  - {do: orient, in: t1,")
    )
    found = axial("lint")
    assert found.exit_code == 1
    assert "plan.0.in: there is no value t1" in found.output
    line = file.read_text().splitlines().index("  - {do: orient, in: t1, axes: RAS, out: head}")
    assert f"model.yaml:{line + 1}" in found.output
    (told,) = json.loads(axial("lint", NAME, "--json").output)
    assert told["name"] == NAME
    assert "plan.0.in" in told["problem"]


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


def test_a_plan_is_explained_with_the_grids_of_a_scan(axial: Axial) -> None:
    steps = json.loads(
        axial("explain", NAME, "--shape", "40,256,200", "--spacing", "4,1,1", "--json").output
    )
    assert [step["do"] for step in steps] == [
        step.do for step in load_manifest(CATALOGUE / NAME).plan
    ]
    by_name = {step["makes"]: step for step in steps}
    assert by_name["head"]["shape"] == [200, 256, 40]
    assert by_name["head"]["mib"] == 0
    assert by_name["small"]["spacing_mm"] == [200 / 128, 2.0, 160 / 128]
    assert by_name["box"]["at_most"]
    assert by_name["fine-image"]["mib"] == 64
    assert by_name["fine-scores"]["kind"] == "0 or 1, decided in the network"
    assert (by_name["brain"]["shape"], by_name["brain"]["kind"]) == ([40, 256, 200], "segments 1")
    page = axial("explain", NAME).output
    assert "176,256,256" in page
    assert "quantile-standardise of small" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shape", "40,256"], "is not three numbers"),
        (["--spacing", "1,0,1"], "must be above zero"),
    ],
)
def test_a_scan_that_is_none_is_refused(axial: Axial, arguments: list[str], words: str) -> None:
    result = axial("explain", NAME, *arguments)
    assert result.exit_code != 0
    assert words in result.output + str(result.exception)


def test_the_schema_tells_every_step(axial: Axial) -> None:
    schema = json.loads(axial("schema").output)
    steps = schema["properties"]["plan"]["items"]["discriminator"]["mapping"]
    assert {"orient", "resample", "infer", "decide", "restore"} <= set(steps)

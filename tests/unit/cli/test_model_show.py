"""``axial models show``: a model in words, and what is built of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.manifest import load_manifest
from services.cli.tree import app
from tests.builders.builds import write_build

MODELS = Path(__file__).resolve().parents[3] / "models"
NAME = "brain-extraction"


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(MODELS / "catalogue" / NAME, tmp_path / "catalogue" / NAME)
    monkeypatch.setenv("AXIAL_CATALOGUE_DIR", str(tmp_path / "catalogue"))
    monkeypatch.setenv("AXIAL_TRITON__REPOSITORY", str(tmp_path / "built"))


def shown(*arguments: str) -> str:
    """What the command prints, its lines joined."""
    return " ".join(CliRunner().invoke(app, ["models", "show", *arguments]).output.split())


def test_what_it_takes_finds_and_looks_at(tmp_path: Path) -> None:
    said = shown(NAME)
    manifest = load_manifest(tmp_path / "catalogue" / NAME)
    assert f"{manifest.identity.title} ({NAME} {manifest.version})" in said
    assert "T1-weighted MR of the head its slices carry the labels" in said
    assert "1 Brain Brain (SCT 12738006)" in said
    assert "outside 0 to 2500 mL the result does not leave" in said
    assert "not yet: axial models build" in said


def test_what_is_built_of_it(tmp_path: Path) -> None:
    digest = load_manifest(tmp_path / "catalogue" / NAME).digest_for("f32")
    write_build(tmp_path / "built", NAME, digest)
    assert f"{digest[:12]} cpu f32" in shown(NAME)


def test_an_ensemble_of_a_folder_outside_the_catalogue() -> None:
    said = shown(str(MODELS / "recipes" / "ich-ct"))
    assert "disagreement above" in said
    assert "the report says so" in said


def test_for_machines() -> None:
    assert json.loads(CliRunner().invoke(app, ["models", "show", NAME, "--json"]).output)["roles"]


@pytest.mark.parametrize("command", ["show", "explain"])
def test_an_unknown_model_is_said(command: str) -> None:
    found = CliRunner().invoke(app, ["models", command, "liver"])
    assert found.exit_code == 1
    said = " ".join(found.output.split())
    assert "liver is neither a model of the catalogue nor a folder with a model.yaml." in said

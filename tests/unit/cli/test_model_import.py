"""``axial models import``: a folder of the catalogue, what is left to do, refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.networks.nets.unet import UNet
from typer.testing import CliRunner, Result

from models.importing.recipes import RECIPES
from models.manifest import lint_manifest
from services.cli.tree import app
from tests.builders.monai_bundle import NETWORKS, inference, write_bundle
from tests.builders.nnunet_cases import unpacked, unpacked_parts

Axial = Callable[..., Result]


@pytest.fixture
def axial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Axial:
    """The command, with a catalogue of its own."""
    monkeypatch.setenv("AXIAL_CATALOGUE_DIR", str(tmp_path / "catalogue"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["models", *arguments])

    return run


@pytest.fixture
def trained(tmp_path: Path) -> str:
    return str(unpacked("ct-two-folds", tmp_path / "results").folder)


def test_a_model_lands_in_the_catalogue_and_what_is_left_is_told(
    axial: Axial, trained: str, tmp_path: Path
) -> None:
    result = axial("import", "nnunet", trained, "--name", "balls", "--fold", "1")
    assert result.exit_code == 0
    assert "segments.*.category" in result.output
    assert "Then: axial models build balls" in result.output
    assert "balls: ok" in axial("lint").output
    explained = json.loads(axial("explain", "balls", "--json").output)
    assert [step["do"] for step in explained][:2] == ["orient", "crop"]
    assert (tmp_path / "catalogue" / "balls" / "fold-1.safetensors").is_file()


def test_another_folder_and_words_for_machines(axial: Axial, trained: str, tmp_path: Path) -> None:
    into = tmp_path / "elsewhere"
    result = axial("import", "nnunet", trained, "--name", "balls", "--into", str(into), "--json")
    told = json.loads(result.output)
    assert (told["name"], told["folder"]) == ("balls", str(into / "balls"))
    assert {"field", "why"} == set(told["to_review"][0])


def test_a_refusal_is_one_line_with_a_remedy(axial: Axial, tmp_path: Path) -> None:
    result = axial("import", "nnunet", str(tmp_path), "--name", "balls")
    assert result.exit_code == 1
    assert "plans.json is wanted in it" in result.output
    assert list((tmp_path / "catalogue").glob("*")) == []


def test_its_help_has_examples(axial: Axial) -> None:
    output = axial("import", "nnunet", "--help").output
    assert "--codes liver-codes.yaml" in " ".join(output.split())


def test_the_parts_of_totalsegmentator_are_imported(axial: Axial, tmp_path: Path) -> None:
    folders = [str(folder) for folder in unpacked_parts(tmp_path / "results").folders]
    result = axial("import", "totalsegmentator", *folders, "--name", "whole")
    assert result.exit_code == 0
    assert "plan: infer.tiling.step: 0.8" in result.output
    assert "whole: ok" in axial("lint").output


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
def test_a_bundle_of_monai_is_imported(axial: Axial, tmp_path: Path) -> None:
    arguments = {key: value for key, value in NETWORKS["UNet"].items() if key != "_target_"}
    bundle = write_bundle(tmp_path / "b", inference(NETWORKS["UNet"]), UNet(**arguments))
    result = axial("import", "monai-bundle", str(bundle), "--name", "spleen-ct")
    assert result.exit_code == 0
    assert "Then: axial models build spleen-ct" in result.output
    assert "spleen-ct: ok" in axial("lint").output
    assert "2 vessel" in " ".join(axial("show", "spleen-ct").output.split())


def test_a_recipe_becomes_a_model_under_its_new_name(axial: Axial, tmp_path: Path) -> None:
    result = axial("new", "head-lesions", "--from", "ich-ct")
    assert "axial models build head-lesions" in result.output
    made = tmp_path / "catalogue" / "head-lesions"
    assert lint_manifest(made).name == "head-lesions"
    recipe = (RECIPES / "ich-ct" / "model.yaml").read_text()
    differing = [
        one
        for one, other in zip(
            (made / "model.yaml").read_text().splitlines(), recipe.splitlines(), strict=True
        )
        if one != other
    ]
    assert differing == ["  name: head-lesions"]
    assert (made / "README.md").is_file()


def test_a_recipe_is_not_written_over_a_model(axial: Axial) -> None:
    assert axial("new", "head-lesions", "--from", "ich-ct", "--json").exit_code == 0
    again = axial("new", "head-lesions", "--from", "ich-ct")
    assert again.exit_code == 1
    assert "is there already" in again.output


def test_a_recipe_that_is_not_there_is_told_with_those_that_are(axial: Axial) -> None:
    result = axial("new", "head-lesions", "--from", "ich-mr")
    assert result.exit_code == 1
    assert "There is no recipe ich-mr. There are " in result.output
    known = sorted(file.parent.name for file in RECIPES.glob("*/model.yaml"))
    assert ", ".join(known) in " ".join(result.output.split())

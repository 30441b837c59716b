"""TensorFlow.js layers are imported: what the file says is taken, and the rest is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from models.building.architectures import build_network, load_strictly
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.network_modules import save_network
from models.building.phantoms import phantom
from models.building.weights import read_tfjs_layers
from models.building.weights.layout import channels_first
from models.manifest import lint_manifest
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume
from models.runtime.torch_network import TorchScores
from services.cli.tree import app
from tests.conftest import Scan

PATCH = (32, 48, 48)
NAMED = ("Unknown", *(f"ctx-{side}-{place}" for side in ("lh", "rh") for place in range(51)), "CSF")


@pytest.fixture
def published(weights: Scan, tmp_path: Path) -> Path:
    """A folder of brainchop, to be altered: 104 classes, named in a colour map as it has them."""
    folder = tmp_path / "published"
    shutil.copytree(
        weights("brainchop") / "model21_104class", folder, copy_function=shutil.copyfile
    )
    folder.chmod(0o755)
    named = json.dumps({"R": [0] * 104, "labels": list(NAMED)})
    (folder / "colormap.json").write_text(named, encoding="utf-8")
    return folder


def do_import(file: Path, catalogue: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Result:
    monkeypatch.setenv("AXIAL_CATALOGUE_DIR", str(catalogue))
    told = {
        "name": "regions",
        "patch": ",".join(map(str, PATCH)),
        "axes": "SAR",
        "intensity": "window:-100,400",
        "modality": "MR",
    }
    options = [part for name, value in told.items() for part in (f"--{name}", value)]
    return CliRunner().invoke(app, ["models", "import", "tfjs", str(file), *options, *more])


def test_its_labels_are_those_of_a_straight_run(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = do_import(published / "model.json", tmp_path / "catalogue", monkeypatch)
    assert result.exit_code == 0, result.output
    made = tmp_path / "catalogue" / "regions"
    manifest = lint_manifest(made)
    assert [segment.label for segment in manifest.segments] == list(NAMED[1:])
    described = manifest.networks["network"]
    module = tmp_path / "network.pt"
    save_network(described, manifest.head_of("network"), made / "model.json", module)
    scores = TorchScores("network", module, described.patch, "f32", "cpu")
    volume = phantom("blobs")
    pixels = np.ascontiguousarray(volume.pixels[: PATCH[0], : PATCH[1], : PATCH[2]])
    given = {"image": SourceVolume(pixels, volume.affine_lps)}
    found = Pipeline(manifest, {"network": scores}, 1).run(given).labels
    layers = read_tfjs_layers(published / "model.json")
    arguments, keys = meshnet_of(layers)
    network = load_strictly(
        build_network("meshnet", arguments), channels_first(layers.tensors), keys
    )
    scaled = (np.clip(pixels, -100, 400) + 100) / 500
    # Rows go back and columns to the left (LPS); the network sees them otherwise.
    turned = np.ascontiguousarray(scaled[:, ::-1, ::-1])
    with torch.inference_mode():
        theirs = network(torch.from_numpy(turned)[None, None])[0].numpy()
    wanted = theirs.argmax(axis=0)[:, ::-1, ::-1]
    assert found is not None
    assert len(np.unique(wanted)) >= 10
    assert (found != wanted).sum() <= 1e-4 * wanted.size


def test_names_that_are_said_count(
    weights: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights("brainchop") / "model5_gw_ae" / "model.json"
    said = ("--class", "white", "--class", "grey")
    assert do_import(file, tmp_path / "catalogue", monkeypatch, *said).exit_code == 0
    segments = lint_manifest(tmp_path / "catalogue" / "regions").segments
    assert [segment.label for segment in segments] == ["white", "grey"]


def _nothing_names_them(folder: Path) -> None:
    (folder / "colormap.json").unlink()


def _colours_alone(folder: Path) -> None:
    (folder / "colormap.json").write_text('{"R": [0, 255]}')


def _too_few_names(folder: Path) -> None:
    (folder / "colormap.json").write_text('{"labels": ["background", "one"]}')


def _arrays_are_missing(folder: Path) -> None:
    (folder / "group1-shard1of1.bin").unlink()


def _arrays_are_cut_off(folder: Path) -> None:
    file = folder / "group1-shard1of1.bin"
    file.write_bytes(file.read_bytes()[:-4])


def _no_chain(folder: Path) -> None:
    _edit(folder, "Activation", "Softmax")


def _other_strides(folder: Path) -> None:
    _edit(folder, '"strides": [1, 1, 1]', '"strides": [2, 2, 2]')


def _no_json(folder: Path) -> None:
    (folder / "model.json").write_text("layers")


def _edit(folder: Path, old: str, new: str) -> None:
    file = folder / "model.json"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_nothing_names_them, "Name each with --class"),
        (_colours_alone, "Name each with --class"),
        (_too_few_names, "104 scores a voxel, which are 103 classes"),
        (_arrays_are_missing, "cannot be read"),
        (_arrays_are_cut_off, "Fetch them again"),
        (_no_chain, "is a Softmax"),
        (_other_strides, "strides of the layer"),
        (_no_json, "cannot be read"),
    ],
)
def test_what_cannot_be_imported_is_said_and_nothing_is_left(
    spoil: object, words: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(spoil)
    spoil(published)
    result = do_import(published / "model.json", tmp_path / "catalogue", monkeypatch)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "catalogue" / "regions").exists()

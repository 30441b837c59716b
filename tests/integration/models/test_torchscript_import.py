"""A network with its own graph is imported, gives what a straight run gives, and is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from typer.testing import CliRunner, Result

from models.building import build_model, verify_build
from models.building.network_modules import save_network
from models.building.phantoms import phantom
from models.manifest import lint_manifest
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume
from models.runtime.torch_network import TorchScores
from services.cli.tree import app
from tests.builders.exporter_warnings import EXPORTER_WARNS

pytestmark = [
    EXPORTER_WARNS,
    pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
]

PATCH = (16, 24, 24)
Import = Callable[..., Result]


class Small(torch.nn.Module):
    """Scores of each voxel by its neighbours and where it lies."""

    def __init__(self, classes: int, margin: int = 0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = torch.nn.Conv3d(1, 6, 3, padding=1)
        self.last = torch.nn.Conv3d(6, classes, 3, padding=1)
        self.margin = margin

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.last(torch.tanh(self.first(image) * 3.0))
        found = found - found.mean(dim=(2, 3, 4), keepdim=True) * 0.9
        return found[:, :, self.margin :]


def _saved(folder: Path, network: torch.nn.Module) -> Path:
    file = folder / "model.ts"
    torch.jit.save(torch.jit.script(network.eval()), str(file))  # pyright: ignore[reportPrivateImportUsage, reportUnknownMemberType]
    return file


@pytest.fixture
def do_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """The command, with a catalogue of its own and all that it has to be told."""
    monkeypatch.setenv("AXIAL_CATALOGUE_DIR", str(tmp_path / "catalogue"))

    def run(file: Path, classes: list[str], **changes: str) -> Result:
        told = {
            "name": "small",
            "patch": ",".join(map(str, PATCH)),
            "axes": "SAR",
            "intensity": "window:-100,400",
            "modality": "CT",
            **changes,
        }
        options = [part for name, value in told.items() for part in (f"--{name}", value)]
        named = [part for name in classes for part in ("--class", name)]
        arguments = ["models", "import", "torchscript", str(file), *options, *named]
        return CliRunner().invoke(app, arguments)

    return run


def test_its_labels_are_those_of_a_straight_run(do_import: Import, tmp_path: Path) -> None:
    network = Small(3)
    assert do_import(_saved(tmp_path, network), ["liver", "vessel"], overlap="0.25").exit_code == 0
    made = tmp_path / "catalogue" / "small"
    manifest = lint_manifest(made)
    described = manifest.networks["network"]
    module = tmp_path / "network.pt"
    save_network(described, manifest.head_of("network"), made / "network.ts", module)
    scores = TorchScores("network", module, described.patch, "f32", "cpu")
    networks: dict[str, Network] = {"network": scores}
    volume = phantom("blobs")
    # The array as it lies has slices first; its rows go back and its columns to the left (LPS).
    given = {"image": SourceVolume(volume.pixels, volume.affine_lps)}
    found = Pipeline(manifest, networks, 1).run(given).labels
    scaled = (np.clip(volume.pixels, -100, 400) + 100) / 500
    turned = np.ascontiguousarray(scaled[:, ::-1, ::-1])
    with torch.inference_mode():
        theirs = sliding_window_inference(
            torch.from_numpy(turned)[None, None], PATCH, 1, network.eval(), 0.25, "gaussian"
        )
    wanted = np.asarray(theirs)[0].argmax(axis=0)[:, ::-1, ::-1]
    assert found is not None
    for number in (0, 1, 2):
        assert (wanted == number).sum() > 300
    assert (found != wanted).sum() <= 1e-4 * wanted.size


def test_it_is_built_and_verified(do_import: Import, tmp_path: Path) -> None:
    assert do_import(_saved(tmp_path, Small(1)), ["lesion"], spacing="1.5,1.2,1.2").exit_code == 0
    folder = tmp_path / "catalogue" / "small"
    record = build_model(folder, "cpu", tmp_path / "built", cache=tmp_path / "cache")
    found = verify_build("small", record.digest, "cpu", tmp_path / "built")
    assert found.known_answer_dice == 1.0


@pytest.mark.parametrize(
    ("classes", "changes", "words"),
    [
        (["liver"], {}, "2 classes beside the background, and 1 are named (liver)"),
        (["liver", "liver"], {}, "A class is named twice"),
        (["liver", "vessel"], {"patch": "16,24"}, "is not three numbers"),
        (["liver", "vessel"], {"patch": "16,24,24.5"}, "voxels are whole numbers"),
        (["liver", "vessel"], {"intensity": "window:low,high"}, "is no way to scale values"),
        (["liver", "vessel"], {"intensity": "histogram"}, "is no way to scale values"),
        (["liver", "vessel"], {"axes": "XYZ"}, "axes"),
        (["liver", "vessel"], {"modality": ""}, "says no modality"),
    ],
)
def test_what_does_not_fit_is_said(
    classes: list[str], changes: dict[str, str], words: str, do_import: Import, tmp_path: Path
) -> None:
    result = do_import(_saved(tmp_path, Small(3)), classes, **changes)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert not (tmp_path / "catalogue" / "small").exists()


def test_a_network_that_loses_a_margin_is_said(do_import: Import, tmp_path: Path) -> None:
    result = do_import(_saved(tmp_path, Small(3, margin=2)), ["liver", "vessel"])
    assert "answers a patch of [16, 24, 24] with [14, 24, 24]" in " ".join(result.output.split())


def test_what_is_no_archive_is_said(do_import: Import, tmp_path: Path) -> None:
    file = tmp_path / "model.ts"
    file.write_text(json.dumps({"no": "archive"}))
    assert "is no TorchScript archive" in " ".join(do_import(file, ["liver"]).output.split())

"""Imported bundles give the labels of MONAI's own workflow, and are built as any other."""

from __future__ import annotations

import copy
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle.config_parser import ConfigParser
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from models.building import build_model, verify_build
from models.building.network_modules import save_network
from models.building.reference_volumes import read_nifti
from models.importing import Said, import_monai_bundle
from models.manifest import Manifest, lint_manifest
from models.runtime.networks import Network
from models.runtime.pipeline import Pipeline
from models.runtime.source_volume import SourceVolume
from models.runtime.torch_network import TorchScores
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.monai_bundle import NETWORKS, inference, write_bundle

pytestmark = [
    EXPORTER_WARNS,
    # Of MONAI's reader of DICOM on a machine without a GPU; a file of NIfTI is read.
    pytest.mark.filterwarnings(
        "ignore:NvImgCodecPydicomReader:UserWarning", "ignore:monai:FutureWarning"
    ),
]

# Of a class: where the two best scores are within rounding.
DIFFERING = 1e-4
SHAPE = (60, 52, 34)


def _silent(step: str) -> None:
    """Report to nobody."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan that lies askew, flipped, and in thick slices: [i, j, k] as a file has it."""
    random = np.random.default_rng(7)
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"), -1)
    body = np.linalg.norm(places, axis=-1) < 0.9
    voxels = np.where(body, 40.0, -1000.0)
    for _ in range(12):
        centre, radius = random.uniform(-0.6, 0.6, 3), random.uniform(0.1, 0.3)
        voxels[np.linalg.norm(places - centre, axis=-1) < radius] = random.uniform(-150, 250)
    voxels += random.normal(0, 8, SHAPE)
    angle = 0.2
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.1, 1.1, 2.7])
    affine[:3, 3] = (30.0, -20.0, 11.0)
    file = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    image = nibabel.Nifti1Image(voxels.astype(np.float32), affine)  # pyright: ignore[reportPrivateImportUsage]
    nibabel.save(image, file)  # pyright: ignore[reportPrivateImportUsage]
    return file


def _buildable(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as this MONAI takes it: older ones were told the size of a SwinUNETR."""
    changed = copy.deepcopy(dict(configuration))
    changed["network_def"].pop("img_size", None)
    return changed


def _network(configuration: Mapping[str, Any], scan: Path) -> torch.nn.Module:
    """The seeded network, its last biases moved so that every class is found in the scan."""
    torch.manual_seed(3)
    parser = ConfigParser(_buildable(configuration))
    network: torch.nn.Module = parser.get_parsed_content("network_def").eval()
    classes = configuration["network_def"]["out_channels"]
    last = [
        weights
        for name, weights in network.named_parameters()
        if name.endswith("bias") and weights.numel() == classes
    ][-1]
    image = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    with torch.no_grad():
        scores = parser.get_parsed_content("inferer")(image[None].as_tensor(), network)[0]
        last -= scores.flatten(1).median(dim=1).values
    return network


def _by_monai(
    configuration: Mapping[str, Any], network: torch.nn.Module, scan: Path
) -> NDArray[np.uint8]:
    """Labels [k, j, i] of MONAI's own transforms, inferer and inversion."""
    changed = _buildable(configuration)
    changed["device"] = "cpu"
    steps = changed["postprocessing"]["transforms"]
    changed["postprocessing"]["transforms"] = [s for s in steps if s["_target_"] != "SaveImaged"]
    parser = ConfigParser(changed)
    data = parser.get_parsed_content("preprocessing")({"image": str(scan)})
    inferer = parser.get_parsed_content("inferer")
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None].as_tensor(), network)[0]
    data["pred"] = MetaTensor(data["pred"], meta=data["image"].meta)
    found = parser.get_parsed_content("postprocessing")(data)["pred"]
    return np.asarray(found[0]).astype(np.uint8).T


def _imported(bundle: Path, into: Path) -> Manifest:
    return lint_manifest(import_monai_bundle(bundle, Said("spleen", into), _silent).folder)


def _by_us(manifest: Manifest, models: Path, scan: Path, work: Path) -> NDArray[np.uint8]:
    (name,) = manifest.networks
    network = manifest.networks[name]
    module = work / "network.pt"
    weights = models / manifest.name / network.weights.path
    save_network(network, manifest.head_of(name), weights, module)
    networks: dict[str, Network] = {name: TorchScores(name, module, network.patch, "f32", "cpu")}
    volume = read_nifti(scan)
    given = {"image": SourceVolume(volume.pixels, volume.affine_lps)}
    labels = Pipeline(manifest, networks, 1).run(given).labels
    assert labels is not None
    return labels


def _require_equal(ours: NDArray[np.uint8], theirs: NDArray[np.uint8], classes: int) -> None:
    assert ours.shape == theirs.shape
    for number in range(classes):
        own = theirs == number
        assert own.sum() > 300, f"class {number} is hardly there and shows nothing"
        differing = int(((ours == number) != own).sum())
        assert differing <= DIFFERING * own.size, f"{differing} voxels of {number} differ"


def _compare(configuration: dict[str, Any], scan: Path, work: Path, **described: Any) -> Manifest:
    network = _network(configuration, scan)
    bundle = write_bundle(work / "bundle", configuration, network, **described)
    manifest = _imported(bundle, work / "models")
    ours = _by_us(manifest, work / "models", scan, work)
    _require_equal(ours, _by_monai(configuration, network, scan), len(manifest.segments) + 1)
    return manifest


@pytest.mark.parametrize("name", NETWORKS)
def test_labels_are_monais_own(name: str, scan: Path, tmp_path: Path) -> None:
    # Five times halved, a smaller patch is a single voxel.
    roi = [64, 64, 64] if name == "SwinUNETR" else [32, 32, 32]
    manifest = _compare(inference(NETWORKS[name], roi=roi), scan, tmp_path)
    assert [one.label for one in manifest.segments] == ["spleen", "vessel"]


def _changed(post: list[dict[str, Any]] | None = None, **inferer: Any) -> dict[str, Any]:
    configuration = inference(NETWORKS["UNet"])
    configuration["inferer"] |= inferer
    if post is not None:
        configuration["postprocessing"]["transforms"] = post
    return configuration


INVERT = {
    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "image",
    "nearest_interp": True, "to_tensor": True,
}  # fmt: skip
ARGMAX = {"_target_": "AsDiscreted", "keys": "pred", "argmax": True}


def test_labels_that_return_by_the_nearest_voxel(scan: Path, tmp_path: Path) -> None:
    _compare(_changed([ARGMAX, INVERT], mode="gaussian", overlap=0.25), scan, tmp_path)


def test_the_largest_component_stays(scan: Path, tmp_path: Path) -> None:
    largest = {
        "_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2],
    }  # fmt: skip
    _compare(_changed([ARGMAX, largest, INVERT]), scan, tmp_path)


def test_scores_that_return_and_are_decided_on_the_slices(scan: Path, tmp_path: Path) -> None:
    back = {**INVERT, "nearest_interp": False}
    _compare(_changed([back, ARGMAX], padding_mode="replicate"), scan, tmp_path)


def test_one_class_by_a_sigmoid(scan: Path, tmp_path: Path) -> None:
    configuration = _changed(
        [
            {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
            {**INVERT, "nearest_interp": False},
            {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        ]
    )
    configuration["network_def"]["out_channels"] = 1
    manifest = _compare(configuration, scan, tmp_path, channel_def={"0": "lesion"})
    assert [one.label for one in manifest.segments] == ["lesion"]


def test_what_other_bundles_do_before_the_network(scan: Path, tmp_path: Path) -> None:
    """As wholeBody_ct_segmentation scales, and vista3d crops."""
    configuration = _changed([ARGMAX, INVERT])
    turned, spaced = configuration["preprocessing"]["transforms"][2:4]
    configuration["preprocessing"]["transforms"][2:5] = [
        turned,
        {**spaced, "pixdim": [2.0, 2.0, 2.0]},
        {"_target_": "CropForegroundd", "keys": "image", "source_key": "image", "margin": 0},
        {"_target_": "NormalizeIntensityd", "keys": "image", "nonzero": True},
        {"_target_": "ScaleIntensityd", "keys": "image", "minv": -1.0, "maxv": 1.0},
    ]
    _compare(configuration, scan, tmp_path)


def test_a_bundle_is_built_verified_and_may_be_a_zip(scan: Path, tmp_path: Path) -> None:
    configuration = inference(NETWORKS["SegResNet"])
    bundle = write_bundle(tmp_path / "spleen_ct", configuration, _network(configuration, scan))
    packed = tmp_path / "spleen_ct.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(bundle.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    said = Said("spleen", tmp_path / "models", case=scan)
    made = import_monai_bundle(packed, said, _silent)
    record = build_model(made.folder, "cpu", tmp_path / "built", cache=tmp_path / "cache")
    assert [parity.accepted for parity in record.parity] == [True]
    found = verify_build("spleen", record.digest, "cpu", tmp_path / "built")
    assert found.known_answer_dice == 1.0


def test_the_folder_says_what_is_left_to_do(scan: Path, tmp_path: Path) -> None:
    configuration = inference(NETWORKS["UNet"])
    bundle = write_bundle(tmp_path / "bundle", configuration, _network(configuration, scan))
    made = import_monai_bundle(bundle, Said("spleen", tmp_path / "models"), _silent)
    fields = [one.field for one in made.to_review]
    assert "roles.image.selector" in fields
    assert "identity.licence" in fields, "a bundle's licence file is not read"
    card = (made.folder / "README.md").read_text()
    assert "Spleen CT segmentation 0.5.9" in card
    assert json.loads((bundle / "configs" / "metadata.json").read_text())["authors"] in card

"""What of a bundle is refused: by its place, with a way on, and without running any of its code."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.unet import UNet

from models.importing import NotImportableError, Said, import_monai_bundle
from tests.builders.monai_bundle import NETWORKS, inference, write_bundle

Change = Callable[[dict[str, Any]], None]
# MONAI's reader of DICOM says so when it is imported on a machine without a GPU.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


def _unet() -> torch.nn.Module:
    arguments = {key: value for key, value in NETWORKS["UNet"].items() if key != "_target_"}
    return UNet(**arguments)


def _bundle(folder: Path, change: Change = lambda _: None, **described: Any) -> Path:
    configuration = inference(NETWORKS["UNet"])
    change(configuration)
    return write_bundle(folder / "bundle", configuration, _unet(), **described)


def _refusal(bundle: Path, folder: Path) -> str:
    with pytest.raises(NotImportableError) as error:
        import_monai_bundle(bundle, Said("spleen", folder / "models"), lambda _: None)
    assert list((folder / "models").glob("*")) == [], "nothing half made is left"
    return str(error.value)


def _at(*path: str | int, value: Any) -> Change:
    """Return a change that writes a value at a place of the configuration."""

    def change(configuration: dict[str, Any]) -> None:
        place: Any = configuration
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return change


def _before(number: int, value: Any) -> Change:
    return _at("preprocessing", "transforms", number, value=value)


def _after(number: int, **changes: Any) -> Change:
    def change(configuration: dict[str, Any]) -> None:
        configuration["postprocessing"]["transforms"][number] |= changes

    return change


REFUSED: dict[str, tuple[Change, str]] = {
    "own scripts": (
        _at("network_def", "_target_", value="scripts.networks.unest.UNesT"),
        "network_def: scripts.networks.unest.UNesT is code beside MONAI",
    ),
    "code of the system": (
        _before(4, {"_target_": "os.system", "command": "true"}),
        "preprocessing.transforms.4: os.system is code beside MONAI",
    ),
    "unknown network": (
        _at("network_def", "_target_", value="DiNTS"),
        "network_def: DiNTS is not known as a network. Known are AttentionUnet",
    ),
    "network of slices": (_at("network_def", "spatial_dims", value=2), "single slices"),
    "network of several images": (_at("network_def", "in_channels", value=4), "takes 4 channels"),
    "an expression": (
        _at("inferer", "roi_size", value="$[int(x) for x in open('/etc/passwd')]"),
        "has roi_size `[int(x) for x in open('/etc/passwd')]`, which is code",
    ),
    "an expression in a list": (
        _at("inferer", "roi_size", value=["$2 ** 5", 32, 32]),
        "has roi_size `2 ** 5`, which is code",
    ),
    "a text of another file": (
        _at("inferer", "overlap", value="%train.json::overlap"),
        "has overlap `%train.json::overlap`",
    ),
    "a reference to nothing": (
        _at("inferer", "roi_size", value="@size::0"),
        "there is nothing called size::0",
    ),
    "references in a ring": (_at("roi", value="@roi"), "its references lead in a ring"),
    "no patch": (
        _at("inferer", value={"_target_": "SimpleInferer"}),
        "inferer: SimpleInferer is not known",
    ),
    "a patch as large as the image": (
        _at("inferer", "roi_size", value=[32, 32, -1]),
        "each side has to be a number of voxels",
    ),
    "another weighting": (
        _at("inferer", value={
            "_target_": "SlidingWindowInferer", "roi_size": 32, "mode": "gaussian",
            "sigma_scale": 0.3,
        }),
        "has sigma_scale 0.3; only 0.125 can be said",
    ),
    "an unknown transform": (
        _before(4, {"_target_": "HistogramNormalized", "keys": "image"}),
        "preprocessing.transforms.4: HistogramNormalized is not known. Known are CropForegroundd",
    ),
    "a function": (
        _before(4, {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: x"}),
        "Lambdad is not known",
    ),
    "an unknown argument": (
        _before(4, {"_target_": "NormalizeIntensityd", "keys": "image", "mask": "body"}),
        "NormalizeIntensityd has the argument mask, which cannot be said",
    ),
    "a window that does not clip": (
        _before(4, {
            "_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 1,
            "b_min": 0, "b_max": 1,
        }),
        "has clip False; only True can be said",
    ),
    "turned after it was resampled": (
        _at("preprocessing", "transforms", value=[
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1, 1, 1]},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
        ]),
        "Orientationd comes after a transform that changes voxels",
    ),
    "regions that overlap": (
        _after(0, softmax=False, sigmoid=True),
        "3 classes that overlap (sigmoid)",
    ),
    "scores by the nearest voxel": (_after(1, nearest_interp=True), "has nearest_interp True"),
    "nothing decides": (_after(2, _disabled_=True), "no AsDiscreted says what a voxel becomes"),
    "an unknown decision": (_after(2, argmax=False, threshold=0.5), "decides over 3 classes"),
    "an image of another name": (
        _at("preprocessing", "transforms", 0, "keys", value="img"),
        "LoadImaged loads 'img', and configs/metadata.json calls the image 'image'",
    ),
    "whole numbers": (
        _at("preprocessing", "transforms", 5, "dtype", value="$torch.uint8"),
        "has dtype torch.uint8; only double, float",
    ),
    "switched off by code": (
        _after(1, _disabled_="$@device == 'cpu'"), "_disabled_ is code (`@device == 'cpu'`)"
    ),
    "a decision on something else": (
        _after(2, keys="image"), "no AsDiscreted says what a voxel becomes"
    ),
    "no transforms": (_at("preprocessing", value={"_target_": "Compose"}), "is no Compose"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_plan_cannot_say_is_refused_by_its_place(what: str, tmp_path: Path) -> None:
    change, words = REFUSED[what]
    told = _refusal(_bundle(tmp_path, change), tmp_path)
    assert words in told
    assert "inference.json: " in told


def test_a_literal_behind_a_dollar_is_read(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path, _at("roi", value="$[32, 32, 32]"))
    import_monai_bundle(bundle, Said("spleen", tmp_path / "models"), lambda _: None)


def test_yaml_is_read_as_json_is(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    file = bundle / "configs" / "inference.json"
    file.rename(file.with_suffix(".yaml"))  # JSON is YAML too
    made = import_monai_bundle(bundle, Said("spleen", tmp_path / "models"), lambda _: None)
    assert (made.folder / "model.yaml").is_file()


def _write_metadata(bundle: Path, change: Change) -> None:
    file = bundle / "configs" / "metadata.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            _at("network_data_format", "inputs", "image", "num_channels", value=4),
            "takes 4 channels",
        ),
        (_at("network_data_format", "inputs", value={}), "has 0 inputs and 1 outputs"),
        (
            _at("network_data_format", "outputs", "pred", "channel_def", value={"1": "spleen"}),
            "names spleen, and the network has 3 classes",
        ),
        (
            _at("network_data_format", "outputs", "pred", "channel_def", value={"a": "spleen"}),
            "keys that are no numbers",
        ),
        (
            _at("network_data_format", "outputs", "pred", "channel_def", value={"0": "background"}),
            "names background, and the network has 3 classes",
        ),
        (_at("network_data_format", value=[]), "metadata.json cannot be read"),
    ],
)
def test_metadata_that_does_not_say_it(change: Change, words: str, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    _write_metadata(bundle, change)
    assert words in _refusal(bundle, tmp_path)


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no bundle of MONAI" in _refusal(tmp_path / "empty", tmp_path)


def test_a_bundle_without_inference(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (bundle / "configs" / "inference.json").unlink()
    assert "holds none of inference.json, inference.yaml" in _refusal(bundle, tmp_path)


def test_weights_that_are_elsewhere(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (bundle / "models" / "model.pt").unlink()
    assert "Name another with --checkpoint" in _refusal(bundle, tmp_path)
    (bundle / "large_files.yml").write_text("large_files: []")
    assert "large_files.yml says where it is fetched from" in _refusal(bundle, tmp_path)


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_weights_that_hold_code_are_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = _bundle(tmp_path)
    torch.save({"model": _Runs()}, bundle / "models" / "model.pt", pickle_module=pickle)
    assert "it names the code" in _refusal(bundle, tmp_path)
    assert not (tmp_path / "ran").exists()


def test_weights_of_another_network(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    torch.save(torch.nn.Linear(2, 2).state_dict(), bundle / "models" / "model.pt")
    assert "model.pt" in _refusal(bundle, tmp_path)


@pytest.mark.parametrize("within", ["model", "state_dict"])
def test_weights_below_a_key(within: str, tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    torch.save({within: _unet().state_dict(), "epoch": 3}, bundle / "models" / "model.pt")
    made = import_monai_bundle(bundle, Said("spleen", tmp_path / "models"), lambda _: None)
    assert (made.folder / "network.safetensors").is_file()


def test_weights_outside_the_bundle_are_not_read(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    torch.save(_unet().state_dict(), tmp_path / "other.pt")
    said = Said("spleen", tmp_path / "models", checkpoint="../other.pt")
    with pytest.raises(NotImportableError, match=r"holds no \.\./other\.pt"):
        import_monai_bundle(bundle, said, lambda _: None)

"""A network with its head as TorchScript and OpenVINO IR says what the network in PyTorch says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from pydantic import ValidationError

from models.building.architectures import (
    architecture_names,
    build_network,
    load_strictly,
    needs_fixed_batch,
    published_keys,
)
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.errors import BuildError
from models.building.exporting import save_ir, save_module
from models.building.heads import ScoringHead
from models.building.weights import (
    read_state_dict,
    read_tensorflow_checkpoint,
    read_tfjs_layers,
    read_torchscript,
)
from models.building.weights.layout import channels_first
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.small_networks import SMALL
from tests.conftest import Scan

pytestmark = EXPORTER_WARNS

SCORES = ScoringHead(kind="scores", activation="softmax")


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def by_openvino(file: Path, image: torch.Tensor) -> np.ndarray:
    compiled = ov.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found: np.ndarray = compiled(image.numpy())[0].copy()
    return found


def in_both(
    network: torch.nn.Module,
    head: ScoringHead,
    image: torch.Tensor,
    folder: Path,
    batch: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What TorchScript and OpenVINO make of a batch."""
    takes = tuple(image.shape[1:])
    save_module(network, head, takes, folder / "net.pt", batch)
    save_ir(folder / "net.pt", takes, batch, folder / "net.xml")
    with torch.inference_mode():
        by_torchscript = read_torchscript(folder / "net.pt")(image).numpy()
    return by_torchscript, by_openvino(folder / "net.xml", image)


@pytest.mark.parametrize("name", architecture_names())
def test_scores_are_the_networks_own_for_any_batch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(name, SMALL[name].arguments)
    batch = 1 if needs_fixed_batch(name) else None
    image = noise(batch or 2, *SMALL[name].takes)
    with torch.inference_mode():
        wanted = network(image).softmax(dim=1).numpy()
    for found in in_both(network, SCORES, image, tmp_path, batch):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-3


def _blast(weights: Scan) -> torch.nn.Module:
    arguments = {"classes": 5, "patch": [95, 95, 95]}
    tensors = read_state_dict(weights("blast-ct-v1") / "model_3.pt")
    keys = published_keys("deepmedic", arguments)
    return load_strictly(build_network("deepmedic", arguments), tensors, keys)


def _brainchop(weights: Scan, name: str) -> torch.nn.Module:
    model = read_tfjs_layers(weights("brainchop") / name / "model.json")
    arguments, keys = meshnet_of(model)
    return load_strictly(build_network("meshnet", arguments), channels_first(model.tensors), keys)


def _brats(weights: Scan, name: str, scope: str, twice: bool) -> torch.nn.Module:
    arguments = {"downsample_twice": twice}
    index = weights("brats17-msnet") / f"{name}.ckpt.index"
    keys = published_keys("msnet", arguments).within(scope)
    tensors = channels_first(read_tensorflow_checkpoint(index))
    return load_strictly(build_network("msnet", arguments), tensors, keys)


def _hippodeep(weights: Scan, name: str, file: str) -> torch.nn.Module:
    tensors = read_state_dict(weights("hippodeep") / file)
    return load_strictly(build_network(name, {}), tensors)


# How it is built, of what, and what it takes.
TRAINED: Mapping[str, tuple[Callable[..., torch.nn.Module], tuple[Any, ...], tuple[int, ...]]] = {
    "blast-ct": (_blast, (), (1, 95, 95, 95)),
    "brainchop-tissue": (_brainchop, ("model20chan3cls",), (1, 20, 24, 16)),
    "brainchop-mindgrab": (_brainchop, ("mindgrab",), (1, 20, 24, 16)),
    "brats17-whole": (_brats, ("msnet_wt32_20000", "MSNet_WT32/", True), (4, 19, 16, 24)),
    "brats17-enhancing": (_brats, ("msnet_en32sg_20000", "MSNet_EN32sg/", False), (4, 19, 16, 24)),
    "hippodeep-head": (
        _hippodeep,
        ("hippodeep-head", "params_head_00075_00000.pt"),
        (1, 32, 32, 32),
    ),
    "hippodeep-affine": (
        _hippodeep,
        ("hippodeep-affine", "paramsaffineta_00079_00000.pt"),
        (2, 64, 64, 64),
    ),
    "hippodeep-hippocampus": (
        _hippodeep,
        ("hippodeep-hippocampus", "hippodeep.pt"),
        (1, 24, 28, 32),
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks_score_alike_in_openvino(name: str, weights: Scan, tmp_path: Path) -> None:
    build, arguments, takes = TRAINED[name]
    network = build(weights, *arguments)
    image = noise(1, *takes)
    with torch.inference_mode():
        wanted = network(image).numpy()
    _, found = in_both(network, ScoringHead(kind="scores"), image, tmp_path)
    assert wanted.std() > 0.05
    assert np.abs(found - wanted).max() < 1e-3


class Given(torch.nn.Module):
    """A network that scores what it is given."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 1.0


def test_argmax_is_the_first_of_the_highest(tmp_path: Path) -> None:
    image = noise(2, 5, 4, 6, 8).round()
    wanted = image.numpy().argmax(axis=1)
    for found in in_both(Given(), ScoringHead(kind="argmax"), image, tmp_path):
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)


def test_each_class_above_its_threshold_sets_its_bit(tmp_path: Path) -> None:
    image = noise(2, 3, 4, 6, 8)
    probability = 1 / (1 + np.exp(-image.numpy()))
    wanted = sum((probability[:, place] > at) << place for place, at in enumerate((0.5, 0.3, 0.8)))
    head = ScoringHead(kind="thresholds", activation="sigmoid", at=(0.5, 0.3, 0.8))
    for found in in_both(Given(), head, image, tmp_path):
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)
    assert set(np.unique(wanted)) == set(range(8))


def test_later_classes_write_over_earlier_ones(tmp_path: Path) -> None:
    image = noise(2, 3, 4, 6, 8)
    wanted = np.zeros((2, 4, 6, 8), np.uint8)
    for place, number in enumerate((2, 200, 4)):
        wanted[image.numpy()[:, place] > 0.25] = number
    head = ScoringHead(kind="thresholds", at=(0.25, 0.25, 0.25), classes=(2, 200, 4))
    for found in in_both(Given(), head, image, tmp_path):
        assert np.array_equal(found, wanted)
    assert set(np.unique(wanted)) == {0, 2, 4, 200}


def test_a_score_on_the_threshold_is_not_above(tmp_path: Path) -> None:
    image = torch.full((1, 2, 2, 2, 2), 0.5)
    head = ScoringHead(kind="thresholds", at=(0.5, 0.25))
    for found in in_both(Given(), head, image, tmp_path):
        assert (found == 2).all()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"kind": "thresholds"}, "belongs to thresholds"),
        ({"kind": "argmax", "at": [0.5]}, "belongs to thresholds"),
        ({"kind": "thresholds", "at": [0.5], "classes": [1, 2]}, "2 classes and 1 thresholds"),
        ({"kind": "thresholds", "at": [0.5] * 9}, "do not fit into 8 bits"),
        ({"kind": "thresholds", "at": [0.5], "classes": [256]}, "less than or equal to 255"),
    ],
)
def test_a_head_that_cannot_be_is_refused(said: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ScoringHead.model_validate(said)


def test_a_patch_that_the_network_does_not_take_is_named(tmp_path: Path) -> None:
    network = build_network("hippodeep-head", {})
    with pytest.raises(BuildError, match=r"takes no patch of \[1, 30, 32, 32\]"):
        save_module(network, SCORES, (1, 30, 32, 32), tmp_path / "net.pt")


def test_another_number_of_thresholds_than_classes_is_named(tmp_path: Path) -> None:
    network = build_network("hippodeep-head", {})
    head = ScoringHead(kind="thresholds", activation="sigmoid", at=(0.5,))
    with pytest.raises(BuildError, match="4 classes, and the head 1 thresholds"):
        save_module(network, head, (1, 32, 32, 32), tmp_path / "net.pt")


def test_saving_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    network = build_network("meshnet", {**SMALL["meshnet"].arguments, "normalisation": "instance"})
    before = set(network.state_dict())
    save_module(network, SCORES, SMALL["meshnet"].takes, tmp_path / "net.pt")
    assert set(network.state_dict()) == before

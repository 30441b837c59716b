"""Networks by name: what is built is what was declared, and weights fit or are refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from models.building.architectures import (
    KeyMap,
    architecture_names,
    build_network,
    load_strictly,
    published_keys,
)
from models.building.errors import ArchitectureError, WeightsError
from tests.builders.small_networks import SMALL


def _built(name: str) -> torch.nn.Module:
    return build_network(name, SMALL[name].arguments)


def test_every_name_has_an_example() -> None:
    assert set(SMALL) == set(architecture_names())


@pytest.mark.parametrize("name", SMALL)
def test_a_network_maps_its_patch_to_one_tensor_of_scores(name: str) -> None:
    network = _built(name)
    with torch.inference_mode():
        found = network(torch.zeros(2, *SMALL[name].takes))
    assert isinstance(found, torch.Tensor)
    assert tuple(found.shape) == (2, *SMALL[name].gives)
    assert not network.training


@pytest.mark.parametrize("name", SMALL)
def test_a_network_takes_its_own_weights_and_misses_one(name: str) -> None:
    network = _built(name)
    state = network.state_dict(keep_vars=True)
    load_strictly(_built(name), state)
    lost = next(network.parameters())
    names = sorted(key for key, tensor in state.items() if tensor is lost)
    kept = {key: tensor for key, tensor in state.items() if key not in names}
    with pytest.raises(WeightsError, match=rf"{len(names)} variables are missing \({names[0]}"):
        load_strictly(_built(name), kept)


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [
        ("deepmedic", {}, "classes: Field required"),
        ("deepmedic", {"classes": 5, "depth": 3}, "depth: Extra inputs"),
        ("deepmedic", {"classes": 5, "patch": [111, 110, 110]}, "not one of the network's"),
        ("deepmedic", {"classes": 5, "patch": [80, 80, 80]}, "not one of the network's"),
        ("meshnet", {"classes": 3, "width": 5, "dilations": [1], "activation": "tanh"}, "'relu'"),
        ("msnet", {"downsample_twice": "yes"}, "downsample_twice: Input should be"),
        ("hippodeep-head", {"classes": 5}, "classes: Extra inputs"),
        ("monai.networks.nets.SegResNet", {"no_such": 1}, "no_such"),
        ("os.system", {}, "There is no architecture os.system"),
        ("monai.networks.nets.os", {}, "There is no architecture"),
    ],
)
def test_an_argument_that_is_wrong_is_named(
    name: str, arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ArchitectureError, match=reason):
        build_network(name, arguments)


def test_plans_name_classes_of_a_list_only() -> None:
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    arguments = {**SMALL[name].arguments, "norm_op": "os.system"}
    with pytest.raises(ArchitectureError, match=r"norm_op names os\.system"):
        build_network(name, arguments)


def test_a_tensor_under_several_names_may_come_under_one() -> None:
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    network = _built(name)
    every = network.state_dict(keep_vars=True)
    once = {id(tensor): (key, tensor) for key, tensor in every.items()}
    assert len(once) < len(every)
    load_strictly(_built(name), dict(once.values()))


def test_what_the_network_has_not_is_named() -> None:
    network = torch.nn.Linear(2, 3)
    state = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "head.bias": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"1 variables are not used \(head\.bias\)"):
        load_strictly(network, state)


def test_another_shape_or_no_number_is_named() -> None:
    state = {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}
    with pytest.raises(WeightsError, match=r"weight is \[2, 3\], the network's \[3, 2\]"):
        load_strictly(torch.nn.Linear(2, 3), state)
    state = {"weight": torch.zeros(3, 2), "bias": torch.tensor([0.0, float("nan"), 0.0])}
    with pytest.raises(WeightsError, match="no finite numbers: bias"):
        load_strictly(torch.nn.Linear(2, 3), state)


def test_counters_of_training_may_be_missing() -> None:
    network = torch.nn.Sequential(torch.nn.BatchNorm3d(2))
    state = {k: one for k, one in network.state_dict().items() if "num_batches" not in k}
    load_strictly(network, state)


def test_a_key_map_drops_strips_and_replaces_in_this_order() -> None:
    keys = KeyMap(drop=("*/Adam*",), strip="Net/", replace=(("/w", ".weight"), ("conv_", "c")))
    found = keys.applied({"Net/conv_1/w": 1, "Net/conv_1/w/Adam_1": 2})
    assert found == {"c1.weight": 1}
    assert keys.within("A/").applied({"A/Net/conv_2/w": 1, "x/Adam": 0}) == {"c2.weight": 1}


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (KeyMap(drop=("*momentum*",)), r"drops \*momentum\*, and no variable"),
        (KeyMap(strip="Net/"), "b does not begin with Net/"),
        (KeyMap(replace=(("Net/a", "b"),)), "Net/a and b both become b"),
    ],
)
def test_a_key_map_that_does_not_fit_is_refused(keys: KeyMap, reason: str) -> None:
    with pytest.raises(WeightsError, match=reason):
        keys.applied({"Net/a": 1, "b": 2})


def test_deepmedics_published_names_follow_its_scales() -> None:
    arguments = SMALL["deepmedic"].arguments
    keys = published_keys("deepmedic", arguments)
    assert keys.applied({"path(1, 1, 1)1.path.1.bn.bias": 0}) == {"paths.1.path.1.bn.bias": 0}


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "models.building.architectures.monai_networks", None)
    with pytest.raises(ArchitectureError, match="The package monai is missing"):
        build_network("monai.networks.nets.SegResNet", SMALL["monai.networks.nets.UNet"].arguments)

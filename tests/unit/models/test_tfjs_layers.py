"""TensorFlow.js layers models: layers and tensors as they are, and lengths that must agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.building.architectures import build_network, load_strictly
from models.building.architectures.meshnet_layers import meshnet_of
from models.building.errors import WeightsError
from models.building.weights import read_tfjs_layers
from models.building.weights.layout import channels_first


def convolution(name: str, before: str, width: int, size: int, **other: Any) -> dict[str, Any]:
    settings = {"filters": width, "kernel_size": [size] * 3, "strides": [1, 1, 1]}
    settings |= {"padding": "same", "data_format": "channels_last", "activation": "linear"}
    settings |= {"dilation_rate": [2, 2, 2], "use_bias": True, "name": name, **other}
    return {"class_name": "Conv3D", "config": settings, "inbound_nodes": [[[before, 0, 0, {}]]]}


def activation(name: str, before: str) -> dict[str, Any]:
    settings = {"name": name, "activation": "elu"}
    node = [[[before, 0, 0, {}]]]
    return {"class_name": "Activation", "config": settings, "inbound_nodes": node}


def model(**last: Any) -> dict[str, Any]:
    """Two convolutions; the second's name ends like the first's."""
    layers: list[dict[str, Any]] = [
        {"class_name": "InputLayer", "config": {"name": "input"}, "inbound_nodes": []},
        convolution("1", "input", 4, 3),
        activation("2", "1"),
        convolution("21", "2", 4, 3),
        activation("22", "21"),
        convolution("output", "22", 3, 1, **last),
    ]
    shapes = {"1": (3, 3, 3, 1, 4), "21": (3, 3, 3, 4, 4), "output": (1, 1, 1, 4, 3)}
    weights = [
        {"name": f"{name}/{part}", "shape": list(one), "dtype": "float32"}
        for name, shape in shapes.items()
        for part, one in (("kernel", shape), ("bias", shape[-1:]))
    ]
    return {
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"paths": ["a.bin", "b.bin"], "weights": weights}],
    }


VALUES = np.arange(108 + 4 + 432 + 4 + 12 + 3, dtype=np.float32) / 500


def write(folder: Path, described: Any, values: np.ndarray = VALUES) -> Path:
    (folder / "model.json").write_text(json.dumps(described))
    content = values.tobytes()
    (folder / "a.bin").write_bytes(content[:1001])
    (folder / "b.bin").write_bytes(content[1001:])
    return folder / "model.json"


def test_layers_and_tensors_come_back_as_they_are(tmp_path: Path) -> None:
    found = read_tfjs_layers(write(tmp_path, model()))
    assert [layer.name for layer in found.layers] == ["input", "1", "2", "21", "22", "output"]
    assert found.layers[3].takes == ("2",)
    assert torch.equal(found.tensors["1/bias"], torch.from_numpy(VALUES[108:112]))
    assert found.tensors["21/kernel"].shape == (3, 3, 3, 4, 4)


def test_a_meshnet_is_made_of_its_layers(tmp_path: Path) -> None:
    found = read_tfjs_layers(write(tmp_path, model()))
    arguments, keys = meshnet_of(found)
    assert arguments["dilations"] == [2, 2]
    network = load_strictly(
        build_network("meshnet", arguments), channels_first(found.tensors), keys
    )
    kernel = network.state_dict()["layers.1.weight"]
    # PyTorch [out, in, k0, k1, k2] is TensorFlow's [k0, k1, k2, in, out].
    assert kernel[3, 1, 0, 1, 2] == found.tensors["21/kernel"][0, 1, 2, 1, 3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"strides": [2, 2, 2]}, "strides of the layer output"),
        ({"activation": "softmax"}, "the layer output does more"),
        ({"padding": "valid"}, "padding of the layer output"),
    ],
)
def test_a_layer_that_meshnet_has_not_is_named(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(WeightsError, match=reason):
        meshnet_of(read_tfjs_layers(write(tmp_path, model(**change))))


def test_a_layer_that_takes_another_than_the_one_before_is_named(tmp_path: Path) -> None:
    described = model()
    described["modelTopology"]["model_config"]["config"]["layers"][3]["inbound_nodes"] = [
        [["1", 0, 0, {}]]
    ]
    with pytest.raises(WeightsError, match=r"the layer 21 takes \['1'\]"):
        meshnet_of(read_tfjs_layers(write(tmp_path, described)))


@pytest.mark.parametrize("values", [VALUES[:-1], np.append(VALUES, np.float32(0))])
def test_binary_files_of_another_length_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    with pytest.raises(WeightsError, match=rf"have {values.nbytes} bytes"):
        read_tfjs_layers(write(tmp_path, model(), values))


@pytest.mark.parametrize("path", ["../a.bin", "/etc/passwd", "sub/a.bin", 3])
def test_a_binary_file_elsewhere_is_not_read(tmp_path: Path, path: Any) -> None:
    described = model()
    described["weightsManifest"][0]["paths"] = [path]
    with pytest.raises(WeightsError, match="does not lie beside it"):
        read_tfjs_layers(write(tmp_path, described))


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    described = model()
    described["weightsManifest"][0]["weights"][0]["quantization"] = {"dtype": "uint8"}
    with pytest.raises(WeightsError, match="1/kernel is quantised"):
        read_tfjs_layers(write(tmp_path, described))


@pytest.mark.parametrize("described", [[], {}, {"modelTopology": {"node": []}}])
def test_another_json_is_no_layers_model(tmp_path: Path, described: Any) -> None:
    with pytest.raises(WeightsError, match=r"no TensorFlow\.js layers model"):
        read_tfjs_layers(write(tmp_path, described))

"""One module, three targets: what torch, ONNX and OpenVINO make of it is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest

from models.building.openvino_ir import save_openvino_ir
from models.building.tensorrt_plan import export_onnx
from models.evaluate import differing_voxels
from models.runtime.openvino_network import OpenVinoNetwork
from models.runtime.torch_network import TorchNetwork
from tests.builders.exporter_warnings import EXPORTER_WARNS

SHAPE = (64, 64, 64)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A soft bright ball, which the network takes for a brain in part."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, size) for size in SHAPE], indexing="ij")
    radius = np.sqrt(x**2 + 1.2 * y**2 + 0.9 * z**2)
    noise = np.random.default_rng(0).normal(0.0, 0.02, SHAPE)
    return (0.75 - 0.5 * np.tanh(4 * (radius - 0.6)) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def by_torch(catalogue_module: Path, image: np.ndarray) -> np.ndarray:
    network = TorchNetwork("fine", catalogue_module, SHAPE, "f32", "cpu")
    network.image()[:] = image
    found = network.foreground().copy()
    assert 0 < found.sum() < found.size
    assert set(np.unique(found)) == {0, 1}
    return found


def test_openvino_equals_torch(
    catalogue_module: Path, image: np.ndarray, by_torch: np.ndarray, tmp_path: Path
) -> None:
    save_openvino_ir(catalogue_module, SHAPE, tmp_path / "fine.xml")
    network = OpenVinoNetwork("fine", tmp_path / "fine.xml", "f32", 2)
    assert network.shape == SHAPE
    network.image()[:] = image
    assert differing_voxels(network.foreground(), by_torch) <= by_torch.size // 1000


def test_memory_that_was_released_is_allocated_again(
    catalogue_module: Path, image: np.ndarray, tmp_path: Path
) -> None:
    save_openvino_ir(catalogue_module, SHAPE, tmp_path / "fine.xml")
    network = OpenVinoNetwork("fine", tmp_path / "fine.xml", "f32", 2)
    network.image()[:] = image
    first = network.foreground().copy()
    network.release()
    network.image()[:] = image
    assert np.array_equal(network.foreground(), first)


@EXPORTER_WARNS
def test_the_onnx_that_tensorrt_reads_equals_torch(
    catalogue_module: Path, image: np.ndarray, by_torch: np.ndarray, tmp_path: Path
) -> None:
    file = tmp_path / "fine.onnx"
    export_onnx(catalogue_module, SHAPE, file)
    graph = onnx.load(str(file))
    onnx.checker.check_model(graph)
    assert [one.name for one in graph.graph.input] == ["image"]
    assert [one.name for one in graph.graph.output] == ["foreground"]
    compiled = ov.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(image[None, None])[0][0, 0]
    assert found.dtype == np.uint8
    assert differing_voxels(found, by_torch) <= by_torch.size // 1000


def test_autocast_lowers_the_precision_and_keeps_the_mask(
    catalogue_module: Path, image: np.ndarray, by_torch: np.ndarray
) -> None:
    network = TorchNetwork("fine", catalogue_module, SHAPE, "bf16", "cpu")
    network.image()[:] = image
    assert differing_voxels(network.foreground(), by_torch) <= by_torch.size // 20

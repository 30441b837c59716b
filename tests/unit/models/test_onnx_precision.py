"""A graph in lower precision: weights and inner tensors are lowered, decisions are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from models.building.errors import BuildError
from models.building.onnx_precision import lower_precision

SHAPE = [1, 2, 6, 6, 6]
TYPES = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def graph(folder: Path, largest: float = 0.5) -> Path:
    """Convolve, scale by a weight, double the size, softmax times the same weight, decide."""
    random = np.random.default_rng(5)
    kernel = (largest * random.uniform(-1, 1, (3, 2, 3, 3, 3))).astype(np.float32)
    weights = {
        "kernel": kernel,
        "scale": np.full((1, 1, 1, 1, 1), 1.5, np.float32),
        "scales": np.array([1, 1, 2, 2, 2], np.float32),
        "at": np.array([0.5], np.float32),
    }
    constant = numpy_helper.from_array(np.array([0.25], np.float32), "value")
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["seen"], pads=[1] * 6),
        helper.make_node("Constant", [], ["quarter"], value=constant),
        helper.make_node("Add", ["seen", "quarter"], ["moved"]),
        helper.make_node("Mul", ["moved", "scale"], ["scaled"]),
        helper.make_node("Resize", ["scaled", "", "scales"], ["doubled"], mode="nearest"),
        helper.make_node("Softmax", ["doubled"], ["scores"], axis=1),
        helper.make_node("Mul", ["scores", "scale"], ["larger"]),
        helper.make_node("Greater", ["larger", "at"], ["above"]),
        helper.make_node("Cast", ["above"], ["ones"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["ones"], ["labels"], to=TensorProto.UINT8),
    ]
    out = [1, 3, 12, 12, 12]
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, SHAPE)],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, out),
            helper.make_tensor_value_info("scaled", TensorProto.FLOAT, [1, 3, 6, 6, 6]),
        ],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    file = folder / "graph.onnx"
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file)
    return file


def types(file: Path) -> dict[str, int]:
    """Every tensor's type, as ONNX infers it."""
    model = shape_inference.infer_shapes(onnx.load(file), check_type=True)
    described = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    found = {one.name: one.type.tensor_type.elem_type for one in described}
    return found | {one.name: one.data_type for one in model.graph.initializer}


def run(file: Path, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    compiled = ov.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(image)
    return found["labels"].copy(), found["scaled"].copy()


def test_weights_and_inner_tensors_are_lowered_and_the_ends_are_not(tmp_path: Path) -> None:
    lower_precision(graph(tmp_path), "f16", tmp_path / "low.onnx")
    found = types(tmp_path / "low.onnx")
    for name in ("kernel", "quarter", "seen", "moved", "doubled"):
        assert found[name] == TensorProto.FLOAT16, name
    for name in ("image", "scaled", "scores", "at", "scales", "ones"):
        assert found[name] == TensorProto.FLOAT, name
    assert found["labels"] == TensorProto.UINT8
    onnx.checker.check_model(onnx.load(tmp_path / "low.onnx"), full_check=True)


def test_bfloat_is_lowered_in_the_same_places(tmp_path: Path) -> None:
    lower_precision(graph(tmp_path), "bf16", tmp_path / "low.onnx")
    weights = {one.name: one for one in onnx.load(tmp_path / "low.onnx").graph.initializer}
    assert weights["kernel"].data_type == TensorProto.BFLOAT16
    assert weights["scales"].data_type == TensorProto.FLOAT
    before = {one.name: one for one in onnx.load(tmp_path / "graph.onnx").graph.initializer}
    close = numpy_helper.to_array(weights["kernel"]).astype(np.float32)
    assert np.allclose(close, numpy_helper.to_array(before["kernel"]), rtol=2**-8)


def test_a_half_precision_graph_says_nearly_the_same(tmp_path: Path) -> None:
    file = graph(tmp_path)
    lower_precision(file, "f16", tmp_path / "low.onnx")
    image = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    labels, scaled = run(file, image)
    low_labels, low_scaled = run(tmp_path / "low.onnx", image)
    assert labels.any()
    assert (labels != low_labels).mean() < 0.01
    assert 0 < np.abs(scaled - low_scaled).max() < 0.02


def test_operators_that_are_named_stay_in_float(tmp_path: Path) -> None:
    file = graph(tmp_path)
    lower_precision(file, "f16", tmp_path / "low.onnx", kept={"Conv", "Softmax", "Greater", "Cast"})
    found = types(tmp_path / "low.onnx")
    assert found["kernel"] == found["seen"] == TensorProto.FLOAT
    assert found["moved"] == TensorProto.FLOAT16


def test_float_is_a_copy(tmp_path: Path) -> None:
    file = graph(tmp_path)
    lower_precision(file, "f32", tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == file.read_bytes()


def test_a_weight_that_half_precision_cannot_hold_is_named(tmp_path: Path) -> None:
    file = graph(tmp_path, largest=1e6)
    with pytest.raises(BuildError, match=r"The weight kernel reaches \S+e?\S*, more than"):
        lower_precision(file, "f16", tmp_path / "low.onnx")
    lower_precision(file, "bf16", tmp_path / "low.onnx")

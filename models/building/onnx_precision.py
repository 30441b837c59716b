"""ONNX graphs in lower precision: one file each, as TensorRT's strongly typed networks want them.

A pass over the float32 graph: weights and inner tensors become float16 or bfloat16, with casts
where a node must compute in float32. Inputs and outputs stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

from models.building.errors import BuildError

__all__ = ["KEPT", "lower_precision"]

# Nodes that compute in float32: decisions, probabilities, and what turns types into others.
KEPT: Final = frozenset(
    {
        *("ArgMax", "Cast", "ConstantOfShape", "Equal", "Greater", "GreaterOrEqual", "Less"),
        *("LessOrEqual", "Range", "Sigmoid", "Softmax", "Where"),
    }
)
# TensorRT has no transposed convolution in bfloat16.
_KEPT_IN_BF16: Final = frozenset({"ConvTranspose"})
# Inputs that are float32 whatever the data are: a Resize's scales.
_ALWAYS_FLOAT: Final = {"Resize": (1, 2)}
_LOW: Final = {
    "f16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
}


def lower_precision(
    onnx_file: Path, precision: str, low_file: Path, kept: Iterable[str] = KEPT
) -> None:
    """Write a float32 graph in another precision.

    Args:
        onnx_file: the graph, of fixed shapes.
        precision: `f16`, `bf16`, or `f32` (a copy).
        low_file: where to.
        kept: names of operators that stay in float32.

    Raises:
        BuildError: a weight is too large for float16.
    """
    if precision == "f32":
        low_file.write_bytes(onnx_file.read_bytes())
        return
    low_type, low_dtype = _LOW[precision]
    model = shape_inference.infer_shapes(onnx.load(onnx_file), strict_mode=True)
    graph = model.graph
    _hoist_constants(graph)
    named = frozenset(kept) | (_KEPT_IN_BF16 if precision == "bf16" else frozenset())
    lowered = _Lowered(graph, low_type, named)
    lowered.rewrite()
    for place, tensor in enumerate(graph.initializer):
        if tensor.name in lowered.weights:
            values = numpy_helper.to_array(tensor)
            graph.initializer[place].CopyFrom(_low_tensor(tensor.name, values, low_type, low_dtype))
    # Types of inner tensors are the pass's own; the old ones would contradict them.
    del graph.value_info[:]
    onnx.save(model, low_file)


class _Lowered:
    """The pass: which tensor is of which type by now, and the casts that stand between."""

    def __init__(self, graph: onnx.GraphProto, low: int, kept: frozenset[str]) -> None:
        self._graph, self._low, self._kept = graph, low, kept
        self._floats = _float_tensors(graph)
        self._weights = {tensor.name for tensor in graph.initializer}
        # Name of each float tensor's low or high twin, where there is one.
        self._twins: dict[tuple[str, int], str] = {}
        self._type: dict[str, int] = {}
        self.weights: set[str] = set()

    def rewrite(self) -> None:
        """Rewrite every node of the graph, in its order."""
        nodes = list(self._graph.node)
        shared = self._used_in_both(nodes)
        outputs = {output.name for output in self._graph.output}
        fresh: list[onnx.NodeProto] = []
        for node in nodes:
            wanted = TensorProto.FLOAT if node.op_type in self._kept else self._low
            for place, name in enumerate(node.input):
                if name not in self._floats:
                    continue
                here = self._wanted_at(node, place, wanted)
                if name in self._weights and name not in shared:
                    if here == self._low:
                        self.weights.add(name)
                    continue
                node.input[place] = self._as_type(name, here, fresh)
            fresh.append(node)
            self._keep_outputs(node, wanted, outputs, fresh)
        del self._graph.node[:]
        self._graph.node.extend(fresh)

    def _wanted_at(self, node: onnx.NodeProto, place: int, wanted: int) -> int:
        return TensorProto.FLOAT if place in _ALWAYS_FLOAT.get(node.op_type, ()) else wanted

    def _used_in_both(self, nodes: list[onnx.NodeProto]) -> set[str]:
        """Return the weights that nodes of both types take: they stay, and are cast."""
        uses: dict[str, set[int]] = {}
        for node in nodes:
            wanted = TensorProto.FLOAT if node.op_type in self._kept else self._low
            for place, name in enumerate(node.input):
                if name in self._weights:
                    uses.setdefault(name, set()).add(self._wanted_at(node, place, wanted))
        return {name for name, types in uses.items() if len(types) > 1}

    def _as_type(self, name: str, wanted: int, fresh: list[onnx.NodeProto]) -> str:
        if self._type.get(name, TensorProto.FLOAT) == wanted:
            return name
        if (name, wanted) not in self._twins:
            twin = f"{name}/as-{TensorProto.DataType.Name(wanted).lower()}"
            fresh.append(helper.make_node("Cast", [name], [twin], name=twin, to=wanted))
            self._twins[name, wanted] = twin
        return self._twins[name, wanted]

    def _keep_outputs(
        self, node: onnx.NodeProto, wanted: int, outputs: set[str], fresh: list[onnx.NodeProto]
    ) -> None:
        """Note the types of a node's outputs; the graph's own are cast back to float32."""
        for place, name in enumerate(node.output):
            if name not in self._floats or wanted == TensorProto.FLOAT:
                continue
            if name in outputs:
                inner = f"{name}/inner"
                node.output[place] = inner
                fresh.append(
                    helper.make_node("Cast", [inner], [name], name=name, to=TensorProto.FLOAT)
                )
                self._type[inner] = wanted
                continue
            self._type[name] = wanted


def _float_tensors(graph: onnx.GraphProto) -> set[str]:
    """Return the names of all tensors of float32."""
    described = [*graph.input, *graph.output, *graph.value_info]
    named = {one.name: one.type.tensor_type.elem_type for one in described}
    named |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    made = {name for node in graph.node for name in node.output if name}
    unknown = made - named.keys()
    if unknown:
        raise BuildError(f"The types of {', '.join(sorted(unknown)[:4])} are not known.")
    return {name for name, kind in named.items() if kind == TensorProto.FLOAT}


def _hoist_constants(graph: onnx.GraphProto) -> None:
    """Make weights of constants, so that one rule serves both."""
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        value = next((one for one in node.attribute if one.name == "value"), None)
        if node.op_type != "Constant" or value is None:
            kept.append(node)
            continue
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value.t)
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)


def _low_tensor(
    name: str, values: NDArray[np.float32], kind: int, dtype: np.dtype[np.generic]
) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        low = values.astype(dtype)
    if not np.isfinite(low.astype(np.float32)).all():
        raise BuildError(
            f"The weight {name} reaches {np.abs(values).max():g}, more than the precision holds. "
            "Build bf16 or f32."
        )
    return helper.make_tensor(name, kind, values.shape, low.tobytes(), raw=True)

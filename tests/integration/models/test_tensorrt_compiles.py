"""Every network is compiled by NVIDIA's own compiler, for four generations of GPUs, without one."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from models.building.architectures import architecture_names, build_network, needs_fixed_batch
from models.building.errors import BuildError
from models.building.exporting import export_graph, save_module
from models.building.heads import ScoringHead
from models.building.tensorrt_plan import export_onnx, save_plan
from tests.builders.exporter_warnings import EXPORTER_WARNS
from tests.builders.small_networks import SMALL
from tests.builders.tensorrt_without_gpu import GENERATIONS, ONLY_HALF, Tensor, compiling_for

pytestmark = EXPORTER_WARNS

NAMES = [name for name in architecture_names() if not needs_fixed_batch(name)]
HALF = {"f16": "HALF", "bf16": "BF16"}


def export(name: str, head: ScoringHead, folder: Path) -> Path:
    small = SMALL[name]
    torch.manual_seed(0)
    network = build_network(name, small.arguments)
    batch = 1 if needs_fixed_batch(name) else None
    save_module(network, head, small.takes, folder / "net.pt", batch)
    export_graph(folder / "net.pt", small.takes, 1, folder / "net.onnx")
    return folder / "net.onnx"


@pytest.mark.parametrize("name", NAMES)
def test_a_network_becomes_a_plan_for_every_generation(name: str, tmp_path: Path) -> None:
    small = SMALL[name]
    file = export(name, ScoringHead(kind="scores"), tmp_path)
    written = [node.op_type for node in onnx.load(file).graph.node]
    convolutions = written.count("Conv") + written.count("ConvTranspose")
    for generation in GENERATIONS:
        plan = tmp_path / f"{generation}.plan"
        with compiling_for(generation) as parsed:
            save_plan(file, "f16", plan)
        assert plan.stat().st_size > 10_000
        (one,) = parsed
        assert one.inputs == [Tensor("image", "FLOAT", (1, *small.takes))]
        assert one.outputs == [Tensor("scores", "FLOAT", (1, *small.gives))]
        assert one.convolutions == {"HALF": convolutions}


def test_a_network_that_onnx_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"net\.pt cannot be exported as ONNX"):
        export("monai.networks.nets.SwinUNETR", ScoringHead(kind="scores"), tmp_path)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that answers with one byte a voxel."""
    folder = tmp_path_factory.mktemp("decided")
    return export("deepmedic", ScoringHead(kind="argmax", activation="softmax"), folder)


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
def test_every_generation_compiles_every_precision_that_it_has(
    generation: str, precision: str, decided: Path, tmp_path: Path
) -> None:
    with compiling_for(generation) as parsed:
        if generation in ONLY_HALF and precision != "f16":
            with pytest.raises(BuildError, match=f"no plan of net.onnx in {precision}"):
                save_plan(decided, precision, tmp_path / "net.plan")
            assert not (tmp_path / "net.plan").exists()
            return
        save_plan(decided, precision, tmp_path / "net.plan")
    assert (tmp_path / "net.plan").stat().st_size > 10_000
    assert parsed[0].outputs == [Tensor("labels", "UINT8", (1, 18, 18, 18))]
    assert parsed[0].convolutions == {HALF.get(precision, "FLOAT"): 8}


def test_transposed_convolutions_stay_in_float_where_bfloat_has_none(tmp_path: Path) -> None:
    file = export("msnet", ScoringHead(kind="scores"), tmp_path)
    with compiling_for("SM89") as parsed:
        save_plan(file, "bf16", tmp_path / "net.plan")
    assert parsed[0].convolutions == {"BF16": 27, "FLOAT": 5}


@pytest.mark.parametrize(
    "head",
    [
        ScoringHead(kind="thresholds", activation="sigmoid", at=(0.5,) * 3, classes=(1, 2, 3)),
        ScoringHead(kind="thresholds", activation="sigmoid", at=(0.5, 0.25, 0.75)),
    ],
)
def test_thresholds_are_compiled_into_the_graph(head: ScoringHead, tmp_path: Path) -> None:
    file = export("meshnet", head, tmp_path)
    with compiling_for("SM80") as parsed:
        save_plan(file, "f16", tmp_path / "net.plan")
    assert parsed[0].outputs == [Tensor("labels", "UINT8", (1, 16, 20, 24))]


def test_the_catalogues_networks_become_plans(catalogue_module: Path, tmp_path: Path) -> None:
    export_onnx(catalogue_module, (64, 64, 64), tmp_path / "net.onnx")
    with compiling_for("SM86") as parsed:
        save_plan(tmp_path / "net.onnx", "f16", tmp_path / "net.plan")
    assert (tmp_path / "net.plan").stat().st_size > 10_000
    assert parsed[0].outputs == [Tensor("foreground", "UINT8", (1, 1, 64, 64, 64))]
    assert set(parsed[0].convolutions) == {"HALF"}


def test_an_operator_that_nobody_knows_is_refused_with_the_parsers_words(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, 8, 8, 8])
    node = helper.make_node("Divine", ["image"], ["scores"], domain="nobody")
    graph = helper.make_graph([node], "g", [image], [scores])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "net.onnx")
    with compiling_for("SM86"), pytest.raises(BuildError, match=r"cannot read net\.onnx.*Divine"):
        save_plan(tmp_path / "net.onnx", "f32", tmp_path / "net.plan")
    assert not (tmp_path / "net.plan").exists()

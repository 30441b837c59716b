"""A network with its head as TorchScript, OpenVINO IR and ONNX.

TorchScript is what a GPU without TensorRT runs, and what the other two are made of. Input `image`
float32 [n, c, *patch], output `scores` (float32 [n, k, *out]) or `labels` (uint8 [n, *out]).
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import torch

from models.building.errors import BuildError
from models.building.heads import Headed, ScoringHead
from models.building.weights import read_torchscript

__all__ = ["IMAGE", "LABELS", "SCORES", "export_graph", "save_ir", "save_module"]

IMAGE: Final = "image"
SCORES: Final = "scores"
LABELS: Final = "labels"
# The last for which PyTorch's exporter for TorchScript is complete; TensorRT 10 and 11 read it.
_OPSET: Final = 17
_INSTANCE_NORMS: Final = (torch.nn.InstanceNorm2d, torch.nn.InstanceNorm3d)


def save_module(
    network: torch.nn.Module,
    head: ScoringHead,
    takes: tuple[int, ...],
    module_file: Path,
    batch: int | None = None,
) -> tuple[int, ...]:
    """Save a network with its head as TorchScript, for patches of one shape.

    Returns the shape [1, k, *out] of the network's raw scores.

    Args:
        network: float32 [n, c, *patch] -> raw scores float32 [n, k, ...].
        head: what it answers with.
        takes: (c, *patch).
        module_file: where to.
        batch: None: any number of patches; else this number alone, with every size a constant:
            for networks that reckon with sizes (`needs_fixed_batch`).

    Raises:
        BuildError: the network does not take such a patch, or answers with another thing.
    """
    example = torch.zeros(batch or 1, *takes)
    headed: torch.nn.Module = Headed(_spelled_out(network), head).eval()
    try:
        with torch.inference_mode():
            answers = _require_scores(headed.get_submodule("network")(example), head, takes)
        if batch is not None:
            headed = torch.export.export(headed, (example,)).module()
        with torch.inference_mode():
            module = torch.jit.trace(headed, example, check_trace=False)  # pyright: ignore[reportPrivateImportUsage]
    except (RuntimeError, ValueError) as error:
        raise BuildError(
            f"The network takes no patch of {list(takes)} ({str(error).strip()}). Correct the "
            "patch or the channels."
        ) from error
    torch.jit.save(module, str(module_file))  # pyright: ignore[reportPrivateImportUsage]
    return answers


def save_ir(module_file: Path, takes: tuple[int, ...], batch: int | None, xml_file: Path) -> None:
    """Convert a saved module to OpenVINO IR with weights in float32.

    `batch` None leaves the number of patches to each call. The precision of the arithmetic is
    chosen when the IR is compiled.

    Raises:
        BuildError: OpenVINO refuses it; in OpenVINO's words.
    """
    import openvino as ov

    try:
        model = ov.convert_model(
            read_torchscript(module_file), example_input=torch.zeros(1, *takes)
        )
        model.reshape([-1 if batch is None else batch, *takes])
        model.inputs[0].get_tensor().set_names({IMAGE})
        whole = model.outputs[0].get_element_type() == ov.Type.u8
        model.outputs[0].get_tensor().set_names({LABELS if whole else SCORES})
        model.validate_nodes_and_infer_types()
    except RuntimeError as error:
        raise BuildError(f"{module_file.name} cannot be converted to OpenVINO: {error}") from error
    ov.save_model(model, xml_file, compress_to_fp16=False)


def export_graph(module_file: Path, takes: tuple[int, ...], batch: int, onnx_file: Path) -> None:
    """Export a saved module as ONNX in float32, of fixed shapes; BuildError where it cannot be."""
    module = read_torchscript(module_file)
    example = torch.zeros(batch, *takes)
    with torch.inference_mode():
        whole = module(example).dtype == torch.uint8
    try:
        torch.onnx.export(
            module,
            (example,),
            str(onnx_file),
            input_names=[IMAGE],
            output_names=[LABELS if whole else SCORES],
            opset_version=_OPSET,
            dynamo=False,
        )
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        # PyTorch puts the whole graph behind its first line.
        said = str(error).split("\n")[0].split("[Caused by")[0].strip()
        raise BuildError(f"{module_file.name} cannot be exported as ONNX: {said}") from error


def _spelled_out(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy whose instance norms have a scale of 1 and a shift of 0 where they had none.

    The same numbers; PyTorch's ONNX exporter needs them where it lost sight of the channels.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, _INSTANCE_NORMS) and not module.affine:
            module.affine = True
            module.weight = torch.nn.Parameter(torch.ones(module.num_features))
            module.bias = torch.nn.Parameter(torch.zeros(module.num_features))
    return network


def _require_scores(scores: object, head: ScoringHead, takes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a network's scores."""
    if not isinstance(scores, torch.Tensor):
        raise BuildError(
            f"The network answers a patch of {list(takes)} with a {type(scores).__name__}, not "
            "with one tensor of scores. Name another architecture or argument."
        )
    if head.at and scores.shape[1] != len(head.at):
        raise BuildError(
            f"The network has {scores.shape[1]} classes, and the head {len(head.at)} thresholds."
        )
    return tuple(scores.shape)

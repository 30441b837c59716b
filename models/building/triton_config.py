"""Generated Triton files: `config.pbtxt` and the one-line `model.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from models.manifest import (
    ANSWER_TENSOR,
    LABELS_TENSOR,
    REQUEST_TENSOR,
    Manifest,
    Target,
    volume_tensor_name,
)
from models.runtime.bls_network import plan_model_name

__all__ = ["MODEL_PY", "pipeline_config", "plan_config"]

MODEL_PY: Final = '''"""Generated: the pipeline that manifest.yaml, beside this file, describes."""

from models.runtime.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def pipeline_config(manifest: Manifest, digest: str, precision: str, target: Target) -> str:
    """Return `config.pbtxt` of a model's pipeline (Python backend).

    On a GPU node the torch target holds its networks itself (KIND_GPU); for tensorrt the
    pipeline stays on the CPU and calls the plans, which are models of their own.
    """
    inputs = [(REQUEST_TENSOR, "TYPE_UINT8", [-1])] + [
        (volume_tensor_name(role), "TYPE_FP32", [-1, -1, -1]) for role in manifest.roles
    ]
    outputs = [(LABELS_TENSOR, "TYPE_UINT8", [-1, -1, -1]), (ANSWER_TENSOR, "TYPE_UINT8", [-1])]
    kind = "KIND_GPU" if target is Target.TORCH else "KIND_CPU"
    parameters = {
        # Volumes are gathered by the CPU for every target.
        "FORCE_CPU_ONLY_INPUT_TENSORS": "yes",
        "axial.model": f"{manifest.name} {manifest.version}",
        "axial.digest": digest,
        "axial.target": target.value,
        "axial.precision": precision,
    }
    return _config(manifest.name, 'backend: "python"', inputs, outputs, kind, parameters)


def plan_config(manifest: Manifest, network: str) -> str:
    """Return `config.pbtxt` of one network's TensorRT plan."""
    shape = [1, 1, *manifest.networks[network].shape]
    return _config(
        plan_model_name(manifest.name, network),
        'platform: "tensorrt_plan"',
        [("image", "TYPE_FP32", shape)],
        [("foreground", "TYPE_UINT8", shape)],
        "KIND_GPU",
        {},
    )


Tensor = tuple[str, str, Sequence[int]]


def _config(
    name: str,
    runner: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    kind: str,
    parameters: Mapping[str, str],
) -> str:
    lines = [f'name: "{name}"', runner, "max_batch_size: 0"]
    lines += [_tensor("input", tensor) for tensor in inputs]
    lines += [_tensor("output", tensor) for tensor in outputs]
    lines.append(f"instance_group [ {{ kind: {kind} count: 1 }} ]")
    lines += [
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _tensor(side: str, tensor: Tensor) -> str:
    name, data_type, dims = tensor
    return f'{side} [ {{ name: "{name}" data_type: {data_type} dims: {list(dims)} }} ]'

"""Generated Triton files: `config.pbtxt` and the one-line `model.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from models.manifest import (
    ANSWER_TENSOR,
    LABELS_TENSOR,
    REQUEST_TENSOR,
    TRITON_DATATYPES,
    Manifest,
    Target,
    plan_model_name,
    triton_model_name,
    volume_tensor_name,
)

__all__ = ["MODEL_PY", "pipeline_config", "plan_config"]

MODEL_PY: Final = '''"""Generated: the pipeline that manifest.yaml, beside this file, describes."""

from models.runtime.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def pipeline_config(manifest: Manifest, digest: str, precision: str, target: Target) -> str:
    """Return `config.pbtxt` of a model's pipeline (Python backend).

    A role's volume comes in one of three inputs, as its voxels are stored. On a GPU node the torch
    target holds its networks itself (KIND_GPU); for tensorrt the pipeline stays on the CPU and
    calls the plans, which are models of their own.
    """
    inputs = [_tensor("input", REQUEST_TENSOR, "UINT8", [-1])]
    inputs += [
        _tensor("input", volume_tensor_name(role, dtype), datatype, [-1, -1, -1], optional=True)
        for role in manifest.roles
        for dtype, datatype in TRITON_DATATYPES.items()
    ]
    outputs = [
        _tensor("output", LABELS_TENSOR, "UINT8", [-1, -1, -1]),
        _tensor("output", ANSWER_TENSOR, "UINT8", [-1]),
    ]
    kind = "KIND_GPU" if target is Target.TORCH else "KIND_CPU"
    parameters = {
        # Volumes are gathered by the CPU for every target.
        "FORCE_CPU_ONLY_INPUT_TENSORS": "yes",
        "axial.model": f"{manifest.name} {manifest.version}",
        "axial.digest": digest,
        "axial.target": target.value,
        "axial.precision": precision,
    }
    name = triton_model_name(manifest.name, digest)
    return _config(name, 'backend: "python"', [*inputs, *outputs], kind, parameters)


def plan_config(manifest: Manifest, digest: str, network: str) -> str:
    """Return `config.pbtxt` of one network's TensorRT plan."""
    shape = [1, 1, *manifest.networks[network].patch]
    return _config(
        plan_model_name(manifest.name, digest, network),
        'platform: "tensorrt_plan"',
        [
            _tensor("input", "image", "FP32", shape),
            _tensor("output", "foreground", "UINT8", shape),
        ],
        "KIND_GPU",
        {},
    )


def _config(
    name: str,
    runner: str,
    tensors: Sequence[str],
    kind: str,
    parameters: Mapping[str, str],
) -> str:
    lines = [f'name: "{name}"', runner, "max_batch_size: 0", *tensors]
    lines.append(f"instance_group [ {{ kind: {kind} count: 1 }} ]")
    lines += [
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def _tensor(
    side: str, name: str, datatype: str, dims: Sequence[int], *, optional: bool = False
) -> str:
    maybe = " optional: true" if optional else ""
    return f'{side} [ {{ name: "{name}" data_type: TYPE_{datatype} dims: {list(dims)}{maybe} }} ]'

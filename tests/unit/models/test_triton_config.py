"""Generated config.pbtxt, read back with Triton's own message."""

from __future__ import annotations

import importlib
from typing import Any

from google.protobuf import text_format

from models.building.triton_config import pipeline_config, plan_config
from models.manifest import Manifest, Target

# Generated without types.
triton: Any = importlib.import_module("tritonclient.grpc.model_config_pb2")


def parsed(text: str) -> Any:
    return text_format.Parse(text, triton.ModelConfig())


def test_a_pipeline_accepts_each_volume_as_it_is_stored(
    small_manifest: Manifest,
) -> None:
    config = parsed(pipeline_config(small_manifest, "d" * 64, "bf16", Target.CPU))
    assert config.name == f"{small_manifest.name}--dddddddddddd"
    assert config.backend == "python"
    assert config.max_batch_size == 0
    assert [(one.name, one.data_type, list(one.dims), one.optional) for one in config.input] == [
        ("REQUEST", triton.TYPE_UINT8, [-1], False),
        ("VOLUME.image.int16", triton.TYPE_INT16, [-1, -1, -1], True),
        ("VOLUME.image.uint16", triton.TYPE_UINT16, [-1, -1, -1], True),
        ("VOLUME.image.float32", triton.TYPE_FP32, [-1, -1, -1], True),
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("LABELS", triton.TYPE_UINT8, [-1, -1, -1]),
        ("ANSWER", triton.TYPE_UINT8, [-1]),
    ]


def test_a_pipeline_tells_its_digest_and_precision(small_manifest: Manifest) -> None:
    config = parsed(pipeline_config(small_manifest, "d" * 64, "bf16", Target.CPU))
    told = {key: value.string_value for key, value in config.parameters.items()}
    assert told["axial.digest"] == "d" * 64
    assert told["axial.precision"] == "bf16"
    assert told["axial.target"] == "cpu"
    assert told["FORCE_CPU_ONLY_INPUT_TENSORS"] == "yes"


def test_networks_by_torch_run_on_a_gpu_instance(small_manifest: Manifest) -> None:
    config = parsed(pipeline_config(small_manifest, "d" * 64, "bf16", Target.TORCH))
    assert [(one.kind, one.count) for one in config.instance_group] == [
        (triton.ModelInstanceGroup.KIND_GPU, 1)
    ]


def test_the_pipeline_around_plans_stays_on_the_cpu(small_manifest: Manifest) -> None:
    for target in (Target.CPU, Target.TENSORRT):
        config = parsed(pipeline_config(small_manifest, "d" * 64, "f16", target))
        assert [one.kind for one in config.instance_group] == [triton.ModelInstanceGroup.KIND_CPU]


def test_a_plan_is_a_gpu_model_of_its_own(small_manifest: Manifest) -> None:
    config = parsed(plan_config(small_manifest, "d" * 64, "fine"))
    assert config.name == "brain-extraction--dddddddddddd--fine"
    assert config.platform == "tensorrt_plan"
    assert config.instance_group[0].kind == triton.ModelInstanceGroup.KIND_GPU
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("image", triton.TYPE_FP32, [1, 1, 32, 32, 32])
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("foreground", triton.TYPE_UINT8, [1, 1, 32, 32, 32])
    ]
